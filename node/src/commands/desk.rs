//! An operator's desk: where her commands go. On this machine through the control socket, which asks for no
//! key; elsewhere over HTTP, each request signed with her key, body and all.

use chordae_base::{Failure, Outcome, limits};
use chordae_chain::keys::SecretKeys;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{key, socket};
use crate::{
    cli,
    client::{self, Call, Place},
    keyfile,
};

/// See the module.
pub(crate) struct Desk {
    place: Place,
    /// Her key, and the origin that her tokens name.
    signs: Option<(SecretKeys, String)>,
}

impl Desk {
    /// Where `--data`, or `--url` with `--key` and `--trust`, says. The one in the environment is no second
    /// answer.
    ///
    /// # Errors
    /// `BadInput` for two places or none, a key or trust file that cannot be read.
    pub(crate) fn open(server: &cli::Server) -> Outcome<Self> {
        let by_habit = std::env::var_os("CHORDAE_DATA");
        match (&server.data, &server.url) {
            (Some(data), Some(_)) if Some(data.as_os_str()) != by_habit.as_deref() => Err(
                Failure::bad_input("--data names one server and --url another; give one of them"),
            ),
            (_, Some(url)) => {
                let how = "--url needs --key OPERATOR.pem and --trust FILE";
                let missing = || Failure::bad_input(how);
                let key = keyfile::read(server.key.as_ref().ok_or_else(missing)?)?;
                let trust = key::read_trust(server.trust.as_ref().ok_or_else(missing)?)?;
                Ok(Self {
                    place: Place::url(url, trust.ca.clone())?,
                    signs: Some((key, trust.origin)),
                })
            }
            (Some(data), None) => Ok(Self {
                place: socket(data),
                signs: None,
            }),
            (None, None) => Err(Failure::bad_input(
                "say where the server is: --data DIR, or --url URL with --key and --trust",
            )),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// Those of the way there, and the server's own.
    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> Outcome<T> {
        self.ask("GET", target, None).await
    }

    /// Changes something.
    ///
    /// # Errors
    /// Those of the way there, and the server's own.
    pub(crate) async fn post<T: DeserializeOwned>(&self, target: &str, body: &Value) -> Outcome<T> {
        let body = body.to_string().into_bytes();
        self.ask("POST", target, Some(body)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        body: Option<Vec<u8>>,
    ) -> Outcome<T> {
        let token = |(keys, origin): &(SecretKeys, String)| {
            key::sign_request(keys, origin, None, method, target, body.as_deref())
        };
        let token = self.signs.as_ref().map(token).transpose()?;
        let call = Call {
            method: method.to_owned(),
            target: target.to_owned(),
            authorization: token.map(|token| format!("Chordae {token}")),
            body: body.map(|body| ("application/json", body)),
        };
        client::send(&self.place, call, limits::ANSWER_BYTES_MAX)
            .await?
            .json()
    }
}
