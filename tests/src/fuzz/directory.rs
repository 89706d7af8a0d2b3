//! What is said on directory streams, and a saved view.

use std::sync::OnceLock;

use trefoil_protocol::{
    directory::{Answer, FRAME_HEADER, Request},
    limits::RECONCILE_FRAME,
    reconcile::{Held, Reconciler, Responder, Salt},
    view::View,
};

use super::Verdict;
use crate::records::{NOW, params, record};

/// A request that is read is written as the same bytes.
pub fn directory_request(data: &[u8]) -> Verdict {
    let Ok(request) = Request::decode(data) else { return Verdict::Refused };
    assert_eq!(request.encode()[FRAME_HEADER..], *data, "{request:?}");
    Verdict::Accepted
}

/// An answer that is read is written as the same bytes.
pub fn directory_answer(data: &[u8]) -> Verdict {
    let Ok(answer) = Answer::decode(data) else { return Verdict::Refused };
    assert_eq!(answer.encode()[FRAME_HEADER..], *data, "{answer:?}");
    Verdict::Accepted
}

/// A message of a reconciliation is answered within the bound by either side, or ends the session.
pub fn reconcile(data: &[u8]) -> Verdict {
    let (view, salt) = (view(), Salt([7; 16]));
    let (mut session, _) = Reconciler::start(&Held::of(view), salt);
    if let Ok(Some(next)) = session.handle_answer(data) {
        assert!(next.len() <= RECONCILE_FRAME);
    }
    let Ok(answer) = Responder::new(&Held::of(view), salt).respond(data) else { return Verdict::Refused };
    assert!(answer.len() <= RECONCILE_FRAME);
    Verdict::Accepted
}

/// What is read of a saved view is saved and read as the same; it is refused when part of it was damaged.
pub fn saved_view(data: &[u8]) -> Verdict {
    let loaded = View::decode(data, &params(), NOW);
    let bytes = loaded.view.encode();
    let again = View::decode(&bytes, &params(), NOW);
    assert_eq!((again.damaged, again.stale, again.view.encode()), (0, 0, bytes));
    if loaded.damaged == 0 { Verdict::Accepted } else { Verdict::Refused }
}

fn view() -> &'static View {
    static VIEW: OnceLock<View> = OnceLock::new();
    VIEW.get_or_init(|| {
        let mut view = View::new(&params(), NOW);
        (0..64).for_each(|relay| drop(view.offer(record(relay), NOW)));
        view
    })
}
