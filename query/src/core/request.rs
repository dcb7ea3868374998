//! Is this request the one that the requester signed, now, and for us? (formats.md 8)
//!
//! The signature is checked before; here the claims are held against the request as it came in. Times
//! are seconds by the clock that never goes back, so a token that has expired once stays expired.

use chordae_base::{Digest, limits};
use chordae_chain::token::Claims;

/// What the claims must agree with.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Our origin.
    pub origin: &'a str,
    /// The method of the request.
    pub method: &'a str,
    /// Path and query exactly as sent.
    pub target: &'a str,
    /// What the body's SHA-256 must be claimed to be; `None` where a token does not cover the body: it
    /// must not claim to, nobody would check it.
    pub body: Option<&'a Digest>,
    /// The newest time ever seen, seconds since 1970.
    pub now_s: i64,
}

/// Whether the claims fit the request; else why not, for our log only: every refusal looks the same
/// from outside.
///
/// # Errors
/// A word for the log and the metric.
pub fn check(claims: &Claims, request: Request<'_>) -> Result<(), &'static str> {
    let fits = |good: bool, why| if good { Ok(()) } else { Err(why) };
    fits(claims.aud == request.origin, "audience")?;
    fits(claims.htm == request.method, "method")?;
    fits(claims.target == request.target, "target")?;
    fits(claims.body.as_ref() == request.body, "body")?;
    fits(
        claims.iat <= request.now_s.saturating_add(limits::TOKEN_AHEAD_S_MAX),
        "issued-ahead",
    )?;
    fits(claims.exp > request.now_s, "expired")?;
    let life = claims.exp.checked_sub(claims.iat);
    fits(
        life.is_some_and(|l| (1..=limits::TOKEN_LIFE_S_MAX).contains(&l)),
        "lifetime",
    )?;
    fits(
        (1..=limits::JTI_BYTES_MAX).contains(&claims.jti.len()),
        "jti",
    )
}
