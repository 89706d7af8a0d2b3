//! The path of a circuit as a small picture, and what each hop of it could know.

use std::{fmt::Write, net::SocketAddr};

use crate::tunnel::Hop;

/// Draws the path from "you" to `target`.
pub(super) fn draw(path: &[Hop], target: SocketAddr) -> String {
    let mut picture = String::from("  you\n");
    for (index, hop) in path.iter().enumerate() {
        let role = role(index, path.len());
        let address = hop.relay.addresses.iter().next().map(|address| address.to_string()).unwrap_or_default();
        let took = hop.took.as_secs_f64() * 1000.0;
        let knows = knows(index, path.len());
        let name = hop.relay.id.short();
        writeln!(picture, "   │")
            .and_then(|()| writeln!(picture, "  {role:<7} {name}  {address:<17} {took:>5.1} ms   could know: {knows}"))
            .expect("writing to a string cannot fail");
    }
    write!(picture, "   │\n  web server        {target}\n").expect("writing to a string cannot fail");
    picture
}

fn role(index: usize, hops: usize) -> &'static str {
    match index {
        0 => "guard",
        last if last + 1 == hops => "exit",
        _ => "middle",
    }
}

fn knows(index: usize, hops: usize) -> &'static str {
    match role(index, hops) {
        "guard" => "you, not where",
        "exit" => "where, not you",
        _ => "its neighbours, neither you nor where",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guard_knows_you_and_only_the_exit_knows_where() {
        let known: Vec<_> = (0..3).map(|index| (role(index, 3), knows(index, 3))).collect();
        assert_eq!(known[0], ("guard", "you, not where"));
        assert_eq!(known[1].0, "middle");
        assert_eq!(known[2], ("exit", "where, not you"));
    }
}
