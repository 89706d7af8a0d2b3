//! Every size, count and time bound of the protocol, with its unit and its reason.
//!
//! Specification: docs/protocol.md, "Limits". Nothing here depends on a network's parameters
//! (those are in `params.rs`); a value that a peer can make us exceed has its name here.

mod bootstrap;
mod client;
mod guards;
mod letters;
mod letters_client;
mod operator;
mod settling;

use std::{ops::RangeInclusive, time::Duration};

pub use self::{bootstrap::*, client::*, guards::*, letters::*, letters_client::*, operator::*, settling::*};

/// Bytes of a cell, the only thing that ever travels on a circuit.
///
/// 2048 because a whole hybrid handshake fits one cell, and because the AEAD runs near its full speed there.
pub const CELL: usize = 2048;
/// Bytes of a Poly1305 tag.
pub const TAG: usize = 16;
/// Bytes that one onion layer takes from a cell: a tag and a kind byte.
pub const LAYER: usize = TAG + 1;
/// Most hops a circuit can have. A seventh would find keystream where its padding must be zero.
pub const MAX_HOPS: usize = 6;
/// Bytes of a message with its padding: what is left of a cell under seven layers' worth of overhead.
pub const MESSAGE: usize = CELL - (MAX_HOPS + 1) * LAYER;
/// Bytes before a message's body: type 1, length 2.
pub const MESSAGE_HEADER: usize = 3;
/// Most bytes of a message's body.
pub const MAX_BODY: usize = MESSAGE - MESSAGE_HEADER;
/// Most stream bytes that one `Data` carries on a circuit: a body less the stream id.
pub const MAX_DATA: usize = MAX_BODY - 2;
/// Cells under one layer key before it is replaced.
pub const REKEY_CELLS: u64 = 1 << 16;

/// Bytes of an X25519 public key.
pub const X25519_KEY: usize = 32;
/// Bytes of an ML-KEM-768 encapsulation key.
pub const MLKEM_KEY: usize = 1184;
/// Bytes of an ML-KEM-768 ciphertext.
pub const MLKEM_CIPHERTEXT: usize = 1088;
/// Most bytes of a handshake's extensions, so that `Extend` fits one message.
pub const MAX_EXTENSIONS: usize = 512;
/// Most leading zero bits that a relay may ask of a `Create`'s puzzle. 2^22 hashes are about a second of one core.
pub const MAX_EFFORT: u8 = 22;

/// Streams that one circuit may have open at once.
pub const MAX_STREAMS: usize = 512;
/// Bytes that either end may send on a stream before the first `Credit`.
pub const INITIAL_CREDIT: u32 = 256 * 1024;
/// Most bytes that may be outstanding on a stream: granted and not yet sent.
pub const MAX_CREDIT: u32 = 4 * 1024 * 1024;
/// Bytes of a stream that may wait here for the circuit, before its local program is not read further.
pub const SEND_BUFFER: usize = 128 * 1024;
/// Most bytes of a host name.
pub const MAX_HOST: usize = 253;
/// Times that a hop may be asked to extend before it succeeds: once, and again after `Busy` or a dead relay.
pub const MAX_EXTENDS: u8 = 8;
/// Most padding cells that one `PadStart` may ask for.
pub const MAX_PAD_BUDGET: u16 = 1024;
/// Most addresses that one name resolution gives back.
pub const MAX_RESOLVED: usize = 16;

/// QUIC stream receive window: the most that a stalled circuit can make one neighbour hold, per direction.
pub const STREAM_WINDOW: u32 = 1024 * 1024;
/// Cells that a circuit's task reads, works on and writes together.
pub const CELL_BATCH: usize = 16;
/// Bidirectional streams an unauthenticated peer may open at once.
pub const STREAMS_UNAUTHENTICATED: u32 = 8;
/// Circuits that the dialler of a link may have at once; a relay of the view gets more as it uses them.
pub const STREAMS_CLIENT: u32 = 256;
/// Circuits that a relay which was dialled may have at once on that link, at first.
pub const STREAMS_RELAY: u32 = 128;
/// Circuits that a relay link may have at once, at most.
pub const STREAMS_RELAY_MAX: u32 = 65_535;
/// Directory streams that the peer of a link may have open at once: one for what it asks, one for what it pushes, and
/// as many again while they end.
pub const DIRECTORY_STREAMS: usize = 4;
/// Circuits from one upstream link to one next relay that are always allowed.
pub const EXTENDS_FREE: usize = 32;
/// From [`EXTENDS_UNCONTENDED`] on, one upstream link gets at most one in this many of the circuits to one next relay,
/// and [`EXTENDS_FREE`] in any case.
pub const EXTENDS_SHARE: usize = 8;

/// For a link's handshake, and for the first cell of a stream.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For opening a QUIC stream; quinn itself waits for ever at the peer's limit.
pub const STREAM_OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// For a relay to extend a circuit by one hop, dialling included; less than the origin's own patience, so that it
/// hears why.
pub const EXTEND_TIMEOUT: Duration = Duration::from_secs(8);
/// For an exit to connect to a target.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// For an exit to resolve a name.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A link with nothing received for this long is dead.
pub const LINK_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The dialler of a link sends something at least this often.
pub const LINK_KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A circuit is used for new streams at most this long.
pub const CIRCUIT_LIFETIME: Duration = Duration::from_secs(600);
/// From the first signal to the end of the process.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(2500);

// ip.rs, policy.rs, params.rs, path.rs

/// Prefix length of an IPv4 netgroup: addresses that share it are taken to be one operator's.
pub const NETGROUP_V4: u8 = 16;
/// Prefix length of an IPv6 netgroup.
pub const NETGROUP_V6: u8 = 32;
/// Most rules of an exit policy.
pub const MAX_POLICY_RULES: usize = 128;
/// Most ports and port ranges that one exit rule lists.
pub const MAX_RULE_PORTS: usize = 64;
/// Most characters of a network's name.
pub const MAX_NETWORK_NAME: usize = 32;
/// Hops of an ordinary circuit: no one relay knows both ends, and no two that are neighbours do.
pub const PATH_HOPS: usize = 3;
/// Scans of the known relays that choosing one path may take. A scan per hop is the rule; more are needed only
/// where netgroups are so tight that choices must be taken back.
pub const MAX_PATH_SCANS: usize = 1000;
// credit.rs, stream.rs
/// A stream's receive window covers its drain rate for this long: three round trips of a usual circuit.
pub const WINDOW_SPAN: Duration = Duration::from_millis(500);
/// The drain rate is measured over at least this long, or over a whole window.
pub const WINDOW_SAMPLE: Duration = Duration::from_millis(50);
/// Bytes of buffer that a stream keeps while nothing waits in it.
pub const IDLE_BUFFER: usize = 4096;
// Links (relay/src/endpoint.rs, link.rs, links.rs)

/// Least bytes that a link may have sent and not yet acknowledged; more with every open circuit.
pub const SEND_WINDOW_MIN: u64 = 8 * 1024 * 1024;
/// A link's send window in stream windows per open circuit. Where it binds, quinn starves streams for ever.
pub const SEND_WINDOW_FACTOR: u64 = 2;
/// Bytes asked of the kernel for a UDP socket's receive buffer, and for its send buffer.
pub const UDP_BUFFER: usize = 2 * 1024 * 1024;
/// Below this many bytes a relay's operator is told that the kernel's limit costs packets.
pub const UDP_BUFFER_LOW: usize = 1024 * 1024;
/// UDP payload that every path is expected to carry (RFC 9000, 14).
pub const MTU_MIN: u16 = 1200;
/// UDP payload up to which a path is probed: Ethernet less IPv6, UDP and some tunnelling.
pub const MTU_MAX: u16 = 1452;
/// Steps of that search end here: of [`MTU_MIN`] to [`MTU_MAX`] the middle is tried, and then all of it.
pub const MTU_STEP: u16 = 64;
/// For the peer to acknowledge a circuit's last cells.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes in progress at one endpoint from which on strangers must prove their address (a QUIC Retry).
pub const HALF_OPEN_FREE: usize = 64;
/// Handshakes in progress at one endpoint, at most.
pub const HALF_OPEN_MAX: usize = 1024;
/// Handshakes in progress from one /24 (IPv4) or /48 (IPv6), at most.
pub const HALF_OPEN_PER_SOURCE: usize = 32;
/// Links accepted and open at one endpoint, at most.
pub const ACCEPTED_LINKS_MAX: usize = 16_384;
/// Links accepted and open from one /24 (IPv4) or /48 (IPv6), at most. Many clients may share an address.
pub const ACCEPTED_LINKS_PER_SOURCE: usize = 256;
/// Connection attempts that wait for the accept loop, at most.
pub const INCOMING_MAX: usize = 1024;
/// Bytes buffered for one connection attempt that waits.
pub const INCOMING_BUFFER: u64 = 16 * 1024;
/// Bytes buffered for all connection attempts that wait.
pub const INCOMING_BUFFER_TOTAL: u64 = 8 * 1024 * 1024;
/// Relays that a node has links to or remembers a failed dial of, at most.
pub const LINKS_MAX: usize = 8192;
/// After a failed dial, for how long the same relay is not dialled; doubled by each further failure.
pub const DIAL_BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest time for which a failed dial is remembered.
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A link that a relay has dialled, on which nothing was open for this long, is closed.
pub const LINK_IDLE_KEPT: Duration = Duration::from_secs(600);
/// A second link to the same relay is closed when it had no circuits for about this long.
pub const LINK_DRAIN: Duration = Duration::from_secs(30);
// The client's local front doors (`client/src/{socks,http,proxy,forward}.rs`).

/// Connections from local programs that one front door serves at once; further ones wait to be accepted.
pub const MAX_LOCAL_CONNECTIONS: usize = 1024;
/// From a local program's connection to the end of what it asks for.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of a SOCKS4 user id, and of a SOCKS4a host name before it is checked: what SOCKS5 can say, too.
pub const MAX_SOCKS_FIELD: usize = 255;
/// Most bytes of an HTTP request's head.
pub const MAX_HTTP_HEAD: usize = 16 * 1024;
/// Most header fields of an HTTP request.
pub const MAX_HTTP_FIELDS: usize = 64;
/// Before accepting is tried again when it failed: long enough not to spin while file descriptors are short.
pub const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// For a refused local program to read why and to hang up.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that a refused local program may still send while it hangs up.
pub const GOODBYE_BYTES: u64 = 64 * 1024;

// relay: extend.rs

/// While fewer circuits than this go to one next relay, upstream links are not counted out.
pub const EXTENDS_UNCONTENDED: usize = 4096;

// relay: relay.rs

/// Handshakes, and extensions, of one link that may wait for their turn.
pub const GATE_WAITING_PER_LINK: usize = 128;
/// Handshakes, and extensions, that may wait for their turn in all.
pub const GATE_WAITING: usize = 2048;
/// Extensions that are under way at once.
pub const EXTENDS_RUNNING: usize = 256;
/// Extensions of one link that are under way at once. A next relay that never answers holds one for
/// [`EXTEND_TIMEOUT`], and must not hold those of everyone.
pub const EXTENDS_RUNNING_PER_LINK: usize = 32;
/// Dialled links that wait to be served.
pub const DIALLED_QUEUE: usize = 64;

// relay: spent.rs

/// Solved puzzles that a busy relay remembers, so that none is used twice; about 5 MiB.
pub const SPENT_PUZZLES: usize = 65_536;

// relay: outlets.rs, exit.rs

/// Of the files and sockets that the system allows a process, what an exit leaves for everything but its streams.
pub const OPEN_FILES_KEPT: usize = 256;
/// Sockets that an exit has open to the outside, at most, even where the system allows more.
pub const OUTLETS_MAX: usize = 65_536;
/// One circuit gets at most one in this many of them.
pub const OUTLETS_SHARE: usize = 4;
/// Sockets that looking up one name may take: two name servers are asked at once, for two kinds of address.
pub const LOOKUP_SOCKETS: u32 = 4;

// relay: memory.rs

/// Bytes that a circuit is reckoned to take while it holds no data: two tasks, two stream halves, keys.
pub const CIRCUIT_MEMORY: u64 = 16 * 1024;
/// Circuits may take one in this many bytes of a relay's memory budget, besides the data that they hold.
pub const CIRCUITS_SHARE: u64 = 2;

// params.rs, epoch.rs, descriptor.rs, exit_summary.rs, work.rs, fraud.rs

/// Most bytes of a record: what 10,000 relays make of a view, and of a download, is this many times 10,000.
pub const MAX_RECORD: usize = 320;
/// Seconds that clocks may differ by: a record of a future epoch counts if its epoch starts no later than this.
pub const CLOCK_TOLERANCE: u64 = 30 * 60;
/// Most epochs that a network may let a record be valid for: a relay that is gone must be forgotten.
pub const LIFETIME_MAX: u8 = 64;
/// Most port ranges of an exit summary, so that a record stays small.
pub const MAX_SUMMARY_RANGES: usize = 8;
/// Most zero bits that a network may ask of a hashcash: 2^40 hashes are days of one core.
pub const HASHCASH_BITS_MAX: u8 = 40;
/// KiB of memory that a network may ask of Argon2id: from the least that the algorithm has, up to what a small relay
/// can spare.
pub const ARGON2_KIB: RangeInclusive<u32> = 8..=256 * 1024;
/// Most zero bits that a network may ask of an Argon2id result.
pub const ARGON2_BITS_MAX: u8 = 16;
/// Epochs from `issued` on for which a fraud proof keeps a relay out: 7 days of the public network.
pub const FRAUD_EPOCHS: u32 = 28;

// directory.rs

/// Most bytes of a frame on a directory stream, without its length: what a peer can make us buffer at once.
pub const DIRECTORY_FRAME: usize = 64 * 1024;
/// Most records, fraud proofs or names of records in one frame.
pub const DIRECTORY_LIST: usize = 256;
/// Most members of a usable set in one frame: as many as fit.
pub const DIRECTORY_MEMBERS: usize = (DIRECTORY_FRAME - 9) / 13;
/// Requests on one directory stream; whoever has more to ask opens another, and has its turn again.
pub const DIRECTORY_REQUESTS: usize = 128;
/// Most bytes of a fraud proof: two records, and the length of the first.
pub const MAX_FRAUD: usize = 2 + 2 * MAX_RECORD;

// view.rs

/// Relays that may be pending in a view at least, however few are established: a small network must be able to grow.
pub const PENDING_MIN: usize = 100;
/// Else one for so many that are established. Each epoch can make the pending ones established: in a day of four a
/// flood makes a view 1.46 times as large.
pub const PENDING_PART: usize = 10;
/// Relays that may be pending in a young view, which has nobody established yet and must be able to take in a whole
/// network; about 20 MB.
pub const PENDING_YOUNG: usize = 65_536;
/// Epochs for which a view is young: the first whole one is the second.
pub const VIEW_YOUNG_EPOCHS: u32 = 2;
/// Pending relays of one netgroup. One /16 of a large hosting company may have a few dozen honest newcomers; a flood
/// from there gets no further.
pub const PENDING_PER_NETGROUP: usize = 32;
/// Fraud proofs that a view holds; about 2 MB. Each has cost the work of a relay.
pub const FRAUDS_MAX: usize = 4096;

// reconcile.rs

/// Most bytes of one message of a reconciliation.
pub const RECONCILE_FRAME: usize = 16 * 1024;
/// Most messages of each side in one session. Thousands of records of which none is shared take fewer until the next
/// bound is reached, so only a peer that lies needs more.
pub const RECONCILE_ROUNDS: usize = 32;
/// Most records that one session finds the asker, or the other, to lack; what is left is for the next session.
pub const RECONCILE_WANTS: usize = 2048;

// relay: clock.rs

/// Clocks of other relays that say whether one's own is right.
pub const CLOCK_SAMPLES: usize = 5;
/// In a network of fewer relays, so many at least.
pub const CLOCK_SAMPLES_LEAST: usize = 3;
/// Clocks that are remembered.
pub const CLOCK_SAMPLES_MAX: usize = 256;
/// For how long.
pub const CLOCK_SAMPLE_AGE: Duration = Duration::from_secs(3 * 3600);

// relay: frames.rs, answer.rs

/// For the rest of a frame on a directory stream, for writing one, and for an answer.
pub const DIRECTORY_TIMEOUT: Duration = Duration::from_secs(15);
/// A directory stream on which nothing is asked for this long ends.
pub const DIRECTORY_IDLE: Duration = Duration::from_secs(60);
/// Directory streams through circuits that a relay answers at once; then whoever was silent longest gives way.
pub const DIRECTORY_ASKERS: usize = 256;
/// Reconciliations that a relay answers at once, each with about 110 bytes per record; then as above.
pub const SESSIONS_RUNNING: usize = 64;
/// For the records of one push; what is not checked by then was pushed for nothing. Less than [`DIRECTORY_TIMEOUT`],
/// for which the pusher waits.
pub const PUSH_PATIENCE: Duration = Duration::from_secs(5);

// relay: senders.rs

/// Pieces of garbage that an address may send within [`GARBAGE_MEMORY`], before its links are closed. An honest node
/// sends none, but for one of another version, or with a broken memory.
pub const GARBAGE_MAX: f64 = 16.0;
/// A record whose memory-hard work is none counts as so many pieces: to find that out costs the most.
pub const GARBAGE_WORK: u32 = 8;
/// How long garbage is remembered.
pub const GARBAGE_MEMORY: Duration = Duration::from_secs(3600);
/// New relays that one netgroup may push within [`NEW_IDENTITIES_SPAN`]. A network grows more slowly; a newcomer does not
/// learn of it by pushes.
pub const NEW_IDENTITIES: f64 = 256.0;
/// See [`NEW_IDENTITIES`].
pub const NEW_IDENTITIES_SPAN: Duration = Duration::from_secs(3600);
/// Reconciliations that one netgroup, or all circuits together, may begin at once.
pub const SESSIONS_BURST: f64 = 32.0;
/// After a burst, one more in so much time. Each costs a hash per record.
pub const SESSION_PAUSE: Duration = Duration::from_millis(500);
/// One address has this part of its netgroup's reconciliations, so that it cannot use them up.
pub const SESSIONS_ADDRESS_PART: f64 = 4.0;
/// An address is dialled back at most once in this time.
pub const REACH_PAUSE: Duration = Duration::from_secs(10);
/// An address that a record lists is dialled at most once in this time, whoever lists it: it may be anybody's. Once in
/// an epoch, where that is shorter.
pub const VERIFY_PAUSE: Duration = Duration::from_secs(60);
/// Senders whose use is remembered, of each kind.
pub const SENDERS_MAX: usize = 16_384;

// relay: directory.rs, directory/intake.rs, news.rs

/// The clock is looked at this often at least, since it may be set.
pub const DIRECTORY_TICK: Duration = Duration::from_secs(10);
/// A usable set that is small, since the network is young, grows with the view so often.
pub const YOUNG_TICK: Duration = Duration::from_millis(500);
/// Relays that were dialled before their record came, and are remembered for it.
pub const PROVED_MAX: usize = 1024;
/// Checks of memory-hard work have one part in so many of a core.
pub const MEMORY_HARD_SHARE: u32 = 10;
/// Such checks that wait for their turn.
pub const MEMORY_HARD_WAITING: usize = 256;
/// And those of one host's: others shall not have to wait for it alone.
pub const MEMORY_HARD_WAITING_EACH: usize = 4;
/// For how long one waits.
pub const MEMORY_HARD_PATIENCE: Duration = Duration::from_secs(20);
/// News that wait to be pushed; what is above is found by reconciliation.
pub const NEWS_MAX: usize = 1024;

// relay: gossip.rs

/// Relays that a relay talks to of its own accord.
pub const NEIGHBOURS: usize = 4;
/// Relays that are asked at once when a relay starts.
pub const FIRST_ASKED: usize = 8;
/// Pushes that are under way at once. A neighbour that does not take them must not keep them from the others.
pub const PUSHES_RUNNING: usize = 16;
/// Of these, to one neighbour: one that is gone, and not known to be, holds each for [`DIRECTORY_TIMEOUT`].
pub const PUSHES_RUNNING_EACH: usize = 2;
/// A talk that takes longer than this is joined by one with another neighbour.
pub const TALK_ALONE: Duration = Duration::from_secs(2);
/// What is learnt within this time is pushed together.
pub const PUSH_DELAY: Duration = Duration::from_millis(500);
/// The same for records that were only renewed.
pub const RENEWALS_DELAY: Duration = Duration::from_secs(5);
/// Neighbours that get those: some relays find them when they compare, which costs less than a third copy for all.
pub const RENEWALS_NEIGHBOURS: usize = 2;
/// When nobody answers, the next relay is tried after this long; doubled each time, up to the pause between
/// reconciliations.
pub const RETRY_MIN: Duration = Duration::from_secs(1);
/// For one talk with a neighbour, whatever it does.
pub const TALK_TIMEOUT: Duration = Duration::from_secs(300);
/// Records that are asked for, or pushed, in one frame: as many as fit in any case.
pub const WANTS_AT_ONCE: usize = DIRECTORY_FRAME / (MAX_RECORD + 2) - 3;

// relay: reach.rs, verify.rs, publish.rs

/// Moments of an epoch at which records are renewed. Relays that renew theirs at one moment share the packets on which
/// that spreads, and it is over before most relays compare what they know.
pub const RENEWAL_MOMENTS: u32 = 6;
/// Relays that are asked whether they can dial one that is about to list itself.
pub const REACH_ASKED: usize = 3;
/// Relays that asked to be dialled back and are dialled at once. For one more, whoever has been dialled for longest gives
/// way: a relay that is there answers before.
pub const REACH_RUNNING: usize = 16;
/// After they could not, it is asked again so much later.
pub const REACH_RETRY: Duration = Duration::from_secs(300);
/// So many of the last [`OUTAGE_OF`] relays that were dialled at random and did not answer are worth a word to the
/// operator: where a tenth is gone, which is usual, it comes to that once in 300 times.
pub const OUTAGE: usize = 6;
/// See [`OUTAGE`].
pub const OUTAGE_OF: usize = 16;
/// A newcomer is looked for within this part of `settle`, so that not all come at once.
pub const VERIFY_PATIENCE_PART: u32 = 12;
/// How long a relay has to answer each of the questions of a look. They are the same; the packets may be lost.
pub const LOOK_PATIENCE: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// Looks of one relay that wait for an answer.
pub const LOOKS_WAITING: usize = 64;
/// Looks that one relay answers within a second: a tenth of a core.
pub const LOOKS_ANSWERED: u32 = 2000;
/// Relays that are looked for at once, to see whether they are there.
pub const VERIFY_RUNNING: usize = 8;
/// A relay that did not answer so often, or a multiple of it, is dialled besides.
pub const VERIFY_DIALS_EVERY: u32 = 16;
/// A relay that is not there is looked for again after [`VERIFY_PAUSE`], doubled each time; longest time until then.
pub const VERIFY_BACKOFF_MAX: Duration = Duration::from_secs(3600);

// relay: store.rs

/// The view is saved this often; once in an epoch, where that is shorter.
pub const SAVE_EVERY: Duration = Duration::from_secs(60);
/// The first time after the start; then after twice as long each time.
pub const SAVE_FIRST: Duration = Duration::from_secs(1);
/// Relays whose saved records have expired, and which are asked where hardly anyone else is known: of so many, some are
/// where they were.
pub const EXPIRED_KEPT: usize = 64;
/// A saved view is at most so many bytes; larger files are none.
pub const VIEW_FILE_MAX: usize = 64 * 1024 * 1024;

// relay: onion_keys.rs

/// Age at which an onion key is replaced: a stolen one opens no handshake after this and [`ONION_KEY_OVERLAP`].
pub const ONION_KEY_LIFETIME: Duration = Duration::from_secs(28 * 24 * 3600);
/// For how long the key before is accepted beside the present one: three times as long as records that still name it
/// are valid in the public network.
pub const ONION_KEY_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often a running relay looks at the age of its onion key.
pub const ONION_KEY_CHECK: Duration = Duration::from_secs(60);

// usable.rs, majority.rs, relays.rs, path.rs

/// Relays that one usable set has, at most: beyond, it would not be held whole by everyone.
pub const MAX_USABLE: usize = 100_000;
/// Sources that a client's usable set needs at least: of fewer, one liar could decide.
pub const SOURCES_MIN: usize = 3;
/// Guards come from the highest age class that this many relays have reached; in a network with fewer, from all.
pub const GUARDS_WANTED: usize = 20;
/// Newcomers together have at most one part in this many of the mass of a draw: a flood of them gains no more.
pub const NEWCOMERS_SHARE: u64 = 10;

/// Epochs after its first whose usable sets confirm a view: who feeds a newcomer lies must do so for as long.
pub const VIEW_CONFIRMED: u8 = 2;
/// After this many epochs without a usable set a view counts as a new one: 7 days of the public network.
pub const VIEW_STALE_EPOCHS: u32 = 28;
