//! How every signed request begins: its token checked before anything else is looked at, then what it
//! asks for read into the words of the trail.
//!
//! ```text
//! Signed (extractor) ──▶ opened ──▶ ... ──▶ settle
//!   401, not recorded     400, recorded      answer or refusal, recorded
//! ```

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Request, rejection::PathRejection},
    http::{HeaderMap, Uri, request},
    middleware::Next,
    response::Response,
};
use chordae_base::{Did, Digest, Failure, KeyId, Outcome};
use http_body_util::BodyExt;

use super::{
    problem::Problem,
    service::{Caller, Service},
};
use crate::{
    core::{
        access::{Leads, Want},
        ask::Params,
    },
    trail::Deed,
};

/// The did in a path, as the router found it.
pub(super) type DidPath = Result<Path<String>, PathRejection>;

/// A request that somebody known here has signed. As an argument of a handler it refuses all others
/// before the handler runs; its token is used up.
pub(super) struct Signed {
    pub(super) service: Arc<Service>,
    pub(super) caller: Caller,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// When it came, monotonic.
    pub(super) begun_ns: u64,
    held: Held,
}

/// What a request holds until the last byte of its answer is taken, or its reader is gone: its turn, its
/// place, its memory.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

impl Held {
    fn hold(&self, what: Box<dyn Any + Send>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(what);
    }
}

/// Around every handler: what its request holds goes with the body of its answer.
pub(super) async fn holding(mut request: Request, next: Next) -> Response {
    let held = Held::default();
    request.extensions_mut().insert(held.clone());
    let response = next.run(request).await;
    let until_taken = move |e| {
        let _ = &held;
        e
    };
    response.map(|body| Body::new(body.map_err(until_taken)))
}

/// One answer among those of a party and of a session.
struct Turn {
    service: Arc<Service>,
    party: KeyId,
    session: Option<Digest>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.service.pace().end(self.party, self.session);
    }
}

impl FromRequestParts<Arc<Service>> for Signed {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut request::Parts,
        service: &Arc<Service>,
    ) -> Result<Self, Problem> {
        let begun_ns = service.clock.mono_ns();
        let caller = service.authenticate(&parts.method, &parts.uri, &parts.headers)?;
        if !service.pace().begin(caller.kid, caller.sid) {
            service.metrics.denied("pace");
            let why = "too many answers at work for one party or session: try again";
            return Err(Problem::busy(why));
        }
        let turn = Turn {
            service: Arc::clone(service),
            party: caller.kid,
            session: caller.sid,
        };
        let held = parts.extensions.get::<Held>().cloned().unwrap_or_default();
        held.hold(Box::new(turn));
        Ok(Self {
            held,
            service: Arc::clone(service),
            caller,
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            begun_ns,
        })
    }
}

impl Signed {
    /// What the trail will say of it, to be filled in; `format` is the word for what it asks.
    pub(super) fn deed(&self, format: &str) -> Deed {
        self.service.deed(&self.caller, format)
    }

    /// Keeps something until the answer is taken.
    pub(super) fn hold(&self, what: impl Any + Send) {
        self.held.hold(Box::new(what));
    }

    /// The parameters of its query, which are among `known`.
    ///
    /// # Errors
    /// `BadInput`, as [`Params::parse`].
    pub(super) fn params(&self, known: &[&'static str]) -> Outcome<Params> {
        Params::parse(self.uri.query(), known)
    }

    /// Which part of which stream it asks for: the did of its path, `from`, `until`, `leads` and `clip`
    /// of its query, noted in the deed as far as they could be read. `known` are the parameters that
    /// this kind of request has.
    ///
    /// # Errors
    /// `BadInput` for a path without a did, or a query that cannot be read.
    pub(super) fn want(
        &self,
        did: DidPath,
        known: &[&'static str],
        deed: &mut Deed,
    ) -> Outcome<(Want, Params)> {
        let did = did_of(did)?;
        deed.did = Some(did);
        let params = self.params(known)?;
        let window = params.window()?;
        (deed.from_ns, deed.until_ns) = (Some(window.from_ns), Some(window.until_ns));
        let leads = params.leads()?;
        note_leads(deed, &leads);
        let want = Want {
            did,
            window,
            leads,
            clip: params.flag("clip")?,
        };
        Ok((want, params))
    }

    /// Writes what became of it to the trail, and only then lets the answer go.
    pub(super) async fn settle(&self, deed: Deed, answer: Result<Response, Problem>) -> Response {
        self.service.settle(deed, answer).await
    }

    /// The same for an answer that is made by work that blocks, without a place among the large answers.
    pub(super) async fn answer(
        &self,
        deed: Deed,
        asked: Outcome<
            impl FnOnce(&Service, &Caller) -> Result<Response, Problem> + Send + 'static,
        >,
    ) -> Response {
        let answer = match asked {
            Ok(work) => {
                let (of, caller) = (Arc::clone(&self.service), self.caller.clone());
                self.service.blocking(move || work(&of, &caller)).await
            }
            Err(failure) => Err(failure.into()),
        };
        self.settle(deed, answer).await
    }
}

/// A did from a path, whatever the path was.
pub(super) fn did_of(path: DidPath) -> Outcome<Did> {
    let Path(text) = path.map_err(|_| Failure::bad_input("the path is not UTF-8"))?;
    text.parse()
        .map_err(|_| Failure::bad_input("the path has no did (lower-case UUID)"))
}

/// The leads in the words of the trail.
pub(super) fn note_leads(deed: &mut Deed, leads: &Leads) {
    deed.leads = match leads {
        Leads::All => None,
        Leads::Named(names) => Some(names.clone()),
    };
}
