//! `trefoil completions` and `trefoil man`: what shells and `man` know, made of the command line's own description.

use std::{fs, path::Path};

use anyhow::Context;
use clap::CommandFactory;

use super::{Ended, Output};
use crate::cli::{self, Arguments};

pub(super) fn completions(arguments: &cli::Completions, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), NAME, &mut script);
    out.print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Ended::Done)
}

pub(super) fn man(arguments: &cli::Man, out: &mut Output<'_>) -> anyhow::Result<Ended> {
    match &arguments.directory {
        Some(directory) => {
            write_pages(directory)?;
            out.print(&format!(
                "the pages are in {}: try man -l {}/{NAME}.1",
                directory.display(),
                directory.display()
            ))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
            out.print(String::from_utf8_lossy(&page).trim_end())?;
        }
    }
    Ok(Ended::Done)
}

fn write_pages(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let written = clap_mangen::generate_to(Arguments::command(), directory);
    written.with_context(|| format!("cannot write to {}", directory.display()))
}

const NAME: &str = "trefoil";

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use clap_complete::Shell;
    use trefoil_relay::status_socket::Form;

    use super::super::played::{output, text};
    use super::*;

    #[test]
    fn every_shell_has_completions_that_know_the_commands() {
        for shell in Shell::value_variants() {
            let mut bytes = Vec::new();
            completions(&cli::Completions { shell: *shell }, &mut output(&mut bytes, Form::Words)).unwrap();
            let script = text(&bytes);
            assert!(["inbox", "doctor", "notify"].iter().all(|word| script.contains(word)), "{shell}");
        }
    }

    #[test]
    fn there_is_a_page_for_each_command() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("man");
        let mut bytes = Vec::new();
        man(&cli::Man { directory: Some(place.clone()) }, &mut output(&mut bytes, Form::Words)).unwrap();
        for page in ["trefoil.1", "trefoil-send.1", "trefoil-contact-add.1", "trefoil-up.1"] {
            assert!(place.join(page).is_file(), "{page}");
        }
        man(&cli::Man { directory: None }, &mut output(&mut bytes, Form::Words)).unwrap();
        assert!(text(&bytes).contains(".TH trefoil 1"), "{}", text(&bytes));
    }
}
