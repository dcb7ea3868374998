//! Request tokens (formats.md 8): a JWT per request, signed by the requester's own key.
//!
//! ```text
//! base64url({"alg":"EdDSA","typ":"chordae-request+jwt","kid":"<key id hex>"}) "."
//! base64url({"aud","sid"?,"htm","target","body"?,"iat","exp","jti"}) "." base64url(signature)
//! ```
//!
//! One algorithm, one type, no other header or claim: nothing in a token chooses how it is
//! verified. Three base64url parts need no JWT library; the usual one verifies without the strict
//! rule of [`crate::keys::verify_strict`] and brings RSA and the NIST curves along. Times, `aud`,
//! `htm`, `target` and `jti` are the caller's to judge: this module has no clock and no memory.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chordae_base::{Digest, Failure, KeyId, Outcome, limits};
use serde::{Deserialize, Serialize};

use crate::keys::{self, SecretKeys};

const ALG: &str = "EdDSA";
const TYP: &str = "chordae-request+jwt";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: KeyId,
}

/// What a request token claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Origin of the log of the node that is asked.
    pub aud: String,
    /// The session; absent when a patient or operator acts for herself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<Digest>,
    /// HTTP method.
    pub htm: String,
    /// Path and query as sent.
    pub target: String,
    /// SHA-256 of the request's body, where a token must cover it (changes by operators).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Digest>,
    /// Issued at, in s since 1970.
    pub iat: i64,
    /// Expires at, in s since 1970.
    pub exp: i64,
    /// Unique per request.
    pub jti: String,
}

/// Signs a token.
///
/// # Errors
/// `BadInput` when it would be longer than a token may be.
pub fn sign(claims: &Claims, keys: &SecretKeys) -> Outcome<String> {
    let header = Header {
        alg: ALG.to_owned(),
        typ: TYP.to_owned(),
        kid: keys.key_id(),
    };
    let mut token = format!("{}.{}", part(&header)?, part(claims)?);
    let signature = keys.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    if token.len() > limits::TOKEN_BYTES_MAX {
        return Err(Failure::bad_input(
            "the request token is too long: shorten the target",
        ));
    }
    Ok(token)
}

fn part(value: &impl Serialize) -> Outcome<String> {
    let json = serde_json::to_vec(value)
        .map_err(|e| Failure::internal(format!("cannot write a request token: {e}")))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// The key id a token names, to look its key up; proves nothing.
///
/// # Errors
/// `BadInput` for anything that is not a token of this type.
pub fn peek_kid(token: &str) -> Outcome<KeyId> {
    Ok(split(token)?.header.kid)
}

/// Verifies a token under the key that the caller trusts.
///
/// # Errors
/// `BadInput` for anything that is not a token of this type; `Refused` when the key is not the one
/// it names or the signature does not hold.
pub fn verify(token: &str, sign_pub: &[u8; 32]) -> Outcome<Claims> {
    let parts = split(token)?;
    if parts.header.kid != keys::key_id(sign_pub) {
        return Err(Failure::refused("the request token names another key"));
    }
    keys::verify_strict(sign_pub, parts.signed.as_bytes(), &parts.signature)?;
    // Only now: claims of a stranger are not even parsed.
    serde_json::from_slice(&parts.claims)
        .map_err(|e| Failure::bad_input(format!("request token: claims: {e}")))
}

struct Parts<'a> {
    header: Header,
    claims: Vec<u8>,
    signature: Vec<u8>,
    signed: &'a str,
}

fn split(token: &str) -> Outcome<Parts<'_>> {
    let bad = |why: &str| Failure::bad_input(format!("request token: {why}"));
    if token.len() > limits::TOKEN_BYTES_MAX {
        return Err(bad("too long"));
    }
    let shape = || bad("not three parts of base64url");
    let (signed, signature) = token.rsplit_once('.').ok_or_else(shape)?;
    let (header, claims) = signed.split_once('.').ok_or_else(shape)?;
    let raw = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| shape());
    let header: Header = serde_json::from_slice(&raw(header)?)
        .map_err(|_| bad("its header must be alg, typ and kid, and nothing else"))?;
    if header.alg != ALG || header.typ != TYP {
        return Err(bad("alg must be EdDSA and typ chordae-request+jwt"));
    }
    Ok(Parts {
        header,
        claims: raw(claims)?,
        signature: raw(signature)?,
        signed,
    })
}
