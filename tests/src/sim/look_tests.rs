//! Scenarios of looks: relays that ask each other whether they are there, beside their links.

use std::{net::SocketAddr, time::Duration};

use quinn::{AsyncUdpSocket, udp::Transmit};
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};
use trefoil_protocol::{
    limits::{LOOK_PATIENCE, LOOKS_ANSWERED},
    look::{ANSWER, Look, QUESTION},
    params::NetworkId,
};
use trefoil_relay::endpoint::{DialError, Effort};

use super::{
    link_tests::{accept, address, cells, circuit, client, linked, net, read, relay, relay_id, secret},
    udp::{Seen, SimNet},
};

const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);

fn send(socket: &dyn AsyncUdpSocket, destination: SocketAddr, contents: &[u8]) {
    socket.try_send(&Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None }).unwrap();
}

fn lengths(packets: &[Seen]) -> Vec<usize> {
    packets.iter().map(|packet| packet.contents.len()).collect()
}

/// How many answers have been sent since the last time.
fn answers(net: &SimNet) -> usize {
    lengths(&net.watch()).into_iter().filter(|length| *length == ANSWER).count()
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_there_says_so_in_one_packet_and_no_link_is_made() {
    let net = net(1);
    let (a, _b) = (relay(&net, 1), relay(&net, 2));
    net.watch();
    assert!(a.look(relay_id(2), address(2), Effort::Ask).await.is_ok());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(lengths(&net.watch()), [QUESTION, ANSWER]);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_lost_is_asked_again() {
    let net = net(1);
    let (a, _b) = (relay(&net, 1), relay(&net, 2));
    net.cut(address(2));
    let start = Instant::now();
    let look = a.look(relay_id(2), address(2), Effort::Ask);
    let heal = async {
        sleep(LOOK_PATIENCE[0] + LOOK_PATIENCE[1] / 2).await;
        net.heal(address(2));
    };
    let (looked, ()) = tokio::join!(look, heal);
    assert!(looked.is_ok());
    assert!(start.elapsed() > LOOK_PATIENCE[0] + LOOK_PATIENCE[1], "it was the third: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_another_relay_is_a_look_finds_nobody_however_it_is_done() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    net.watch();
    let asked = a.look(relay_id(3), address(2), Effort::Ask).await;
    assert!(matches!(asked, Err(DialError::Timeout)), "{asked:?}");
    assert_eq!(answers(&net), 0, "it was not asked for this relay, and says nothing");
    let accepting = async { b.accept().await.unwrap().finish().await.is_err() };
    let (dialled, refused) = tokio::join!(a.look(relay_id(3), address(2), Effort::Dial), accepting);
    assert!(matches!(dialled, Err(DialError::WrongKey)) && refused, "{dialled:?}");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_asked_too_much_to_answer_is_dialled() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let look = a.look(relay_id(2), address(2), Effort::Dial);
    let ((), looked, accepted) = tokio::join!(flood(&net), look, accept(&b));
    assert!(looked.is_ok() && accepted.peer() == Some(relay_id(1)), "{looked:?}");
}

/// Asks relay 2 each quarter of a second as often as it answers in one, for four seconds.
async fn flood(net: &SimNet) {
    let socket = net.socket("10.0.9.9:9".parse().unwrap());
    let mut rng = StdRng::seed_from_u64(1);
    let question = Look::new(NETWORK, relay_id(2), &mut rng).question(&mut rng);
    for _ in 0..16 {
        (0..LOOKS_ANSWERED).for_each(|_| send(&*socket, address(2), &question));
        sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_have_a_rate_and_links_go_on_beside_a_flood_of_questions() {
    let net = net(1);
    let (a, b) = (relay(&net, 1), relay(&net, 2));
    let (dialled, accepted) = linked(&a, &b, 2).await;
    let (mut ours, mut theirs) = circuit(&dialled, &accepted).await;
    answers(&net);
    let start = Instant::now();
    let carried = async {
        ours.writer.write(cells(100)).await.unwrap();
        read(&mut theirs, 100).await;
        start.elapsed()
    };
    let ((), carried) = tokio::join!(flood(&net), carried);
    assert!(carried < Duration::from_secs(1), "{carried:?}");
    let answered = answers(&net);
    let most = 5 * LOOKS_ANSWERED as usize; // four seconds touch five
    assert!((most * 3 / 5..=most).contains(&answered), "{answered}");
    sleep(Duration::from_secs(2)).await;
    assert!(a.look(relay_id(2), address(2), Effort::Ask).await.is_ok(), "it answers again");
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_only_from_where_it_was_asked_and_only_if_the_relay_signed_it() {
    let net = net(1);
    let a = relay(&net, 1);
    let (there, elsewhere) = (net.socket(address(2)), net.socket(address(3)));
    let mut rng = StdRng::seed_from_u64(1);
    let asked = |packets: Vec<Seen>| {
        let question = packets.iter().find(|packet| packet.contents.len() == QUESTION).unwrap();
        Look::asked(&question.contents, &NETWORK, &relay_id(2)).unwrap()
    };
    for (socket, signer, is_good) in [(&there, 2, true), (&elsewhere, 2, false), (&there, 3, false)] {
        net.watch();
        let answer = async {
            sleep(Duration::from_millis(100)).await;
            let look = asked(net.watch());
            let other = Look::new(NETWORK, relay_id(2), &mut rng).answer(&secret(2));
            send(&**socket, address(1), &other); // of another look: it changes nothing
            send(&**socket, address(1), &look.answer(&secret(signer)));
        };
        let (looked, ()) = tokio::join!(a.look(relay_id(2), address(2), Effort::Ask), answer);
        assert_eq!(looked.is_ok(), is_good, "signed by {signer}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_neither_ask_nor_answer() {
    let net = net(1);
    let (client, b) = (client(&net, 1), relay(&net, 2));
    net.watch();
    let (looked, accepted) = tokio::join!(client.look(relay_id(2), address(2), Effort::Ask), accept(&b));
    assert!(looked.is_ok() && accepted.peer().is_none());
    assert!(!lengths(&net.watch()).contains(&QUESTION));
    let asked = b.look(relay_id(1), address(1), Effort::Ask).await;
    assert!(asked.is_err());
}
