//! Tokens that cover a body, for the node's admin routes.

use axum::http::StatusCode;
use chordae_base::Digest;
use chordae_chain::token;

use crate::world::*;

/// What the node's admin routes rely on: a change is signed with its body.
#[tokio::test]
async fn a_token_that_covers_a_body_is_good_for_that_body_alone() {
    let w = World::new();
    let target = "/v1/admin/devices";
    let (this, other) = (Digest([1; 32]), Digest([2; 32]));
    let asks = |claimed: Option<Digest>, sent: Option<&Digest>| {
        let mut claims = w.claims(None, target);
        claims.body = claimed;
        let token = token::sign(&claims, &w.operator).unwrap();
        let request = request(target, &token);
        let (method, uri) = (request.method(), request.uri());
        let caller = w
            .service
            .authenticate_body(method, uri, request.headers(), sent);
        // Once more: a token is used up, by its body or by another.
        let again = w
            .service
            .authenticate_body(method, uri, request.headers(), sent);
        assert!(again.is_err());
        caller.map(|c| c.kid).map_err(|problem| problem.status())
    };
    let refused = Err(StatusCode::UNAUTHORIZED);
    assert_eq!(asks(Some(this), Some(&this)), Ok(w.operator.key_id()));
    assert_eq!(asks(None, None), Ok(w.operator.key_id()));
    assert_eq!(asks(Some(other), Some(&this)), refused);
    assert_eq!(asks(None, Some(&this)), refused);
    assert_eq!(asks(Some(this), None), refused);
}
