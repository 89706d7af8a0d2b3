//! HTTP CONNECT on the proxy's port, for programs that cannot speak SOCKS.
//!
//! RFC 9110, section 9.3.6. One request per connection. `Proxy-Authorization` is never asked for and never checked:
//! it keeps streams apart. This file never forwards plain HTTP, and never resolves a name.

use std::{convert::Infallible, future::Future, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, PROXY_AUTHORIZATION},
    server::conn::http1::{self, Parts},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use trefoil_protocol::{
    limits::{MAX_HTTP_FIELDS, MAX_HTTP_HEAD},
    message::{Reason, Target},
};

use crate::{
    target,
    tunnel::{Isolation, OpenError},
};

/// A connection whose request was answered.
pub struct Answered<I, S> {
    /// The connection.
    pub io: I,
    /// What the program sent after its request.
    pub pipelined: Bytes,
    /// What `open` made, if the answer was 200: the connection is a tunnel to it from here on.
    pub stream: Option<S>,
}

type Answer = Response<Full<Bytes>>;

/// Reads one request, whose head must be there within `patience`, and answers it when `open` has made the stream that
/// it asks for.
///
/// # Errors
/// When the connection breaks, or what comes is no HTTP; the program has been told then, if it could be.
pub async fn answer<I, S, F>(
    io: I,
    patience: Duration,
    open: impl Fn(Isolation, Target) -> F,
) -> hyper::Result<Answered<I, S>>
where
    I: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<S, OpenError>>,
{
    let (opened, mut stream) = mpsc::channel(1);
    let service = service_fn(|request| {
        let asked = read(&request).map(|target| open(isolation(&request), target));
        let opened = opened.clone();
        async move {
            Ok::<_, Infallible>(match asked {
                Ok(opening) => match opening.await {
                    Ok(stream) => granted(&opened, stream),
                    Err(error) => refused(&error),
                },
                Err(answer) => *answer,
            })
        }
    });
    let connection = settings(patience).serve_connection(TokioIo::new(io), service);
    let Parts { io, read_buf, .. } = connection.without_shutdown().await?;
    Ok(Answered { io: io.into_inner(), pipelined: read_buf, stream: stream.try_recv().ok() })
}

/// Half-close, because a program may send all it has, and end, before it hears that its tunnel is open.
fn settings(patience: Duration) -> http1::Builder {
    let mut settings = http1::Builder::new();
    settings
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HTTP_HEAD)
        .max_headers(MAX_HTTP_FIELDS)
        .auto_date_header(false)
        .half_close(true);
    settings
}

/// What is asked for, or the answer to who asks for anything else.
fn read<B>(request: &Request<B>) -> Result<Target, Box<Answer>> {
    let uri = request.uri();
    match (request.method(), uri.authority()) {
        (&Method::CONNECT, Some(authority)) => target::parse(authority.as_str())
            .map_err(|error| text(StatusCode::BAD_REQUEST, &format!("CONNECT to what? {error}."))),
        (&Method::CONNECT, None) => Err(text(StatusCode::BAD_REQUEST, "CONNECT to what? Expected HOST:PORT.")),
        (_, Some(_)) => Err(only_connect()),
        (_, None) => Err(text(StatusCode::BAD_REQUEST, NOT_A_WEB_SERVER)),
    }
    .map_err(Box::new)
}

const NOT_A_WEB_SERVER: &str = "This is not a web server but Trefoil's proxy: set this host and port as the SOCKS5 \
                                proxy of your program, or as its HTTPS (CONNECT) proxy.";

fn isolation<B>(request: &Request<B>) -> Isolation {
    match request.headers().get(PROXY_AUTHORIZATION) {
        Some(credentials) => Isolation::new(&[b"proxy-authorization", credentials.as_bytes()]),
        None => Isolation::default(),
    }
}

fn granted<S>(opened: &mpsc::Sender<S>, stream: S) -> Answer {
    match opened.try_send(stream) {
        Ok(()) => Response::default(),
        Err(_) => text(StatusCode::BAD_REQUEST, "Only one request per connection is served."),
    }
}

fn refused(error: &OpenError) -> Answer {
    let status = match error {
        OpenError::Stream(Reason::Policy) | OpenError::NoExit(_) => StatusCode::FORBIDDEN,
        OpenError::Stream(Reason::Timeout) | OpenError::Timeout => StatusCode::GATEWAY_TIMEOUT,
        OpenError::NoPath(_) | OpenError::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
        OpenError::Stream(_) => StatusCode::BAD_GATEWAY,
    };
    text(status, &format!("Trefoil could not connect: {error}."))
}

fn only_connect() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Trefoil's proxy serves only CONNECT over HTTP, or SOCKS.");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("CONNECT"));
    answer
}

fn text(status: StatusCode, sentence: &str) -> Answer {
    let mut answer = Response::new(Full::from(format!("{sentence}\n")));
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use trefoil_protocol::host::Host;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// The text of the answer to `request`, and what was opened.
    async fn ask(
        request: &str,
        outcome: impl Fn() -> Result<(), OpenError>,
    ) -> (String, Option<(Isolation, Target)>, Bytes) {
        let (mut program, proxy) = duplex(64 * 1024);
        program.write_all(request.as_bytes()).await.unwrap();
        let opened = answer(proxy, PATIENCE, async |isolation, target| outcome().map(|()| (isolation, target)));
        let Answered { io, pipelined, stream } = opened.await.unwrap();
        drop(io);
        let mut text = String::new();
        program.read_to_string(&mut text).await.unwrap();
        (text, stream, pipelined)
    }

    async fn refusal(request: &str) -> String {
        let (text, stream, _) = ask(request, || Ok(())).await;
        assert_eq!(stream, None, "{text}");
        text
    }

    #[tokio::test]
    async fn connect_is_answered_when_the_stream_is_open_and_later_bytes_are_the_streams() {
        let (text, stream, pipelined) = ask("CONNECT Example.com:443 HTTP/1.1\r\n\r\nhello", || Ok(())).await;
        let target = Target::Exit { host: Host::parse("example.com").unwrap(), port: 443 };
        assert_eq!(text, "HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(stream, Some((Isolation::default(), target)));
        assert_eq!(pipelined, "hello");
    }

    #[tokio::test]
    async fn an_ipv6_address_in_brackets_is_a_target() {
        let (_, stream, _) = ask("CONNECT [2001:db8::1]:80 HTTP/1.1\r\n\r\n", || Ok(())).await;
        let target = Target::Exit { host: Host::parse("2001:db8::1").unwrap(), port: 80 };
        assert_eq!(stream, Some((Isolation::default(), target)));
    }

    #[tokio::test]
    async fn credentials_are_the_isolation() {
        let isolation = async |credentials: &str| {
            let request = format!("CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: Basic {credentials}\r\n\r\n");
            ask(&request, || Ok(())).await.1.unwrap().0
        };
        assert_eq!(isolation("YTpi").await, isolation("YTpi").await);
        assert_ne!(isolation("YTpi").await, isolation("YTpj").await);
        assert_ne!(isolation("YTpi").await, Isolation::default());
    }

    #[tokio::test]
    async fn each_failure_has_its_status_and_a_sentence() {
        type Failure = fn() -> OpenError;
        let failures: [(Failure, &str); 9] = [
            (|| OpenError::Stream(Reason::Policy), "403"),
            (|| OpenError::NoExit("none of the 8 relays exits to port 25".into()), "403"),
            (|| OpenError::Stream(Reason::Refused), "502"),
            (|| OpenError::Stream(Reason::Unreachable), "502"),
            (|| OpenError::Stream(Reason::NameNotFound), "502"),
            (|| OpenError::Stream(Reason::Timeout), "504"),
            (|| OpenError::Timeout, "504"),
            (|| OpenError::NoPath("all guards are down".into()), "503"),
            (|| OpenError::Shutdown, "503"),
        ];
        for (failure, status) in failures {
            let (text, stream, _) = ask("CONNECT a:1 HTTP/1.1\r\n\r\n", || Err(failure())).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(text.ends_with(&format!("Trefoil could not connect: {}.\n", failure())), "{text}");
            assert_eq!(stream, None);
        }
    }

    #[tokio::test]
    async fn other_requests_are_told_what_this_port_is() {
        let text = refusal("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        assert!(text.contains("not a web server"), "{text}");
        let text = refusal("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 405 "), "{text}");
        assert!(text.contains("allow: CONNECT\r\n") && text.contains("only CONNECT"), "{text}");
    }

    #[tokio::test]
    async fn a_target_that_is_none_is_a_bad_request() {
        for target in ["example.com", "example.com:0", "u@example.com:80", "/"] {
            let text = refusal(&format!("CONNECT {target} HTTP/1.1\r\n\r\n")).await;
            assert!(text.starts_with("HTTP/1.1 400 "), "{target}: {text}");
        }
    }

    /// The error that a connection with these bytes and no more ends with, and what the program is told.
    async fn failure(bytes: &[u8]) -> (hyper::Error, String) {
        let (mut program, proxy) = duplex(64 * 1024);
        program.write_all(bytes).await.unwrap();
        let opened = answer(proxy, PATIENCE, async |_, _| Ok(()));
        let error = opened.await.map(|_| ()).unwrap_err();
        let mut text = String::new();
        program.read_to_string(&mut text).await.unwrap();
        (error, text)
    }

    #[tokio::test]
    async fn garbage_is_an_error_and_a_bad_request() {
        for garbage in [&b"\x16\x03\x01\x02\x00\r\n\r\n"[..], b"CONNECT 2001:db8::1:80 HTTP/1.1\r\n\r\n"] {
            let (error, text) = failure(garbage).await;
            assert!(error.is_parse(), "{error}");
            assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        }
    }

    #[tokio::test]
    async fn a_head_beyond_the_limit_is_an_error() {
        let (error, text) = failure(&[b'A'; MAX_HTTP_HEAD + 1]).await;
        assert!(error.is_parse_too_large(), "{error}");
        assert!(text.starts_with("HTTP/1.1 4"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_is_not_waited_for() {
        let (error, _) = failure(b"CONNECT example.com:443 HTTP/1.1\r\n").await;
        assert!(error.is_timeout(), "{error}");
    }
}
