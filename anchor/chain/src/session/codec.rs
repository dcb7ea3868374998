//! The CBOR of session records (formats.md 7): strict, and bounded before anything is kept.

use chordae_base::{Did, Failure, Outcome, limits};
use ciborium::Value;
use sha2::{Digest as _, Sha256};

use super::{Grant, Section, SectionPlain, SessionRecord};
use crate::{
    cbor::{self, take},
    seal,
};

/// Bytes of a section that a reader will decrypt.
const SECTION_BYTES_MAX: usize = limits::BODY_BYTES_MAX;
/// Bytes of a session's purpose.
const PURPOSE_BYTES_MAX: usize = 1024;

impl SectionPlain {
    pub(super) fn value(&self) -> Value {
        let time = |t: &Option<i64>| t.map_or(Value::Null, Value::from);
        let grant = |g: &Grant| {
            Value::Array(vec![
                Value::Bytes(g.did.0.to_vec()),
                cbor::text_map(&g.metadata),
                Value::from(g.url.as_str()),
                time(&g.st_ns),
                time(&g.et_ns),
                g.leads.as_ref().map_or(Value::Null, |leads| {
                    Value::Array(leads.iter().map(|lead| lead.as_str().into()).collect())
                }),
            ])
        };
        Value::Array(vec![
            Value::Bytes(self.patient.to_vec()),
            Value::Bytes(self.requester.to_vec()),
            time(&self.expires_ns),
            Value::from(self.purpose.as_str()),
            Value::Array(self.grants.iter().map(grant).collect()),
        ])
    }

    pub(super) fn from_value(value: Value) -> Outcome<Self> {
        let [patient, requester, expires, purpose, grants] = take::tuple(value, "section")?;
        let grants = take::array(grants, "grants", limits::GRANTS_MAX)?;
        let plain = Self {
            patient: take::fixed(patient, "patient")?,
            requester: take::fixed(requester, "requester")?,
            expires_ns: take::optional(expires, |v| take::int(v, "expires_ns"))?,
            purpose: take::text(purpose, "purpose")?,
            grants: grants
                .into_iter()
                .map(Grant::from_value)
                .collect::<Outcome<_>>()?,
        };
        plain.check()?;
        Ok(plain)
    }

    /// CBOR of the section.
    ///
    /// # Errors
    /// `BadInput` when it breaks a bound.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        self.check()?;
        cbor::encode(&self.value())
    }

    /// Reads a section in plain text, strictly.
    ///
    /// # Errors
    /// `BadInput` for anything else.
    pub fn decode(bytes: &[u8]) -> Outcome<Self> {
        Self::from_value(cbor::decode(bytes)?)
    }

    fn check(&self) -> Outcome<()> {
        let bad = |why: &str| Err(Failure::bad_input(format!("session: {why}")));
        if !(1..=limits::GRANTS_MAX).contains(&self.grants.len()) {
            return bad("a section holds 1-1024 grants");
        }
        if self.purpose.len() > PURPOSE_BYTES_MAX {
            return bad("the purpose is over 1024 bytes");
        }
        for grant in &self.grants {
            if grant
                .st_ns
                .zip(grant.et_ns)
                .is_some_and(|(st, et)| st >= et)
            {
                return bad("a grant ends before it begins");
            }
            if grant.leads.as_ref().is_some_and(|leads| leads.is_empty()) {
                return bad("a grant of no leads allows nothing; leave them out for all");
            }
        }
        Ok(())
    }
}

impl Grant {
    fn from_value(value: Value) -> Outcome<Self> {
        let [did, metadata, url, st, et, leads] = take::tuple(value, "grant")?;
        let leads = take::optional(leads, |v| {
            let names = take::array(v, "leads", limits::LEADS_MAX)?;
            names
                .into_iter()
                .map(|name| take::text(name, "lead"))
                .collect::<Outcome<Vec<_>>>()
        })?;
        Ok(Self {
            did: Did(take::fixed(did, "did")?),
            metadata: take::text_map(metadata, "metadata", limits::METADATA_MAX)?,
            url: take::text(url, "url")?,
            st_ns: take::optional(st, |v| take::int(v, "st_ns"))?,
            et_ns: take::optional(et, |v| take::int(v, "et_ns"))?,
            leads,
        })
    }
}

impl Section {
    fn value(&self) -> Value {
        Value::Array(vec![
            Value::Bytes(self.inventory_id.to_vec()),
            Value::Bytes(self.ciphertext.clone()),
            Value::Bytes(self.ksec_provider.clone()),
            Value::Bytes(self.ksec_requester.clone()),
            Value::Bytes(self.ksec_patient.clone()),
        ])
    }

    fn from_value(value: Value) -> Outcome<Self> {
        let [inventory, ciphertext, provider, requester, patient] = take::tuple(value, "section")?;
        // Ksec (32) sealed.
        let ksec = |v, name| take::fixed::<{ 32 + seal::OVERHEAD }>(v, name).map(Vec::from);
        let ciphertext = take::bytes(ciphertext, "ciphertext")?;
        if ciphertext.len() > SECTION_BYTES_MAX {
            return Err(Failure::bad_input("session: a section is too long"));
        }
        Ok(Self {
            inventory_id: take::fixed(inventory, "inventory id")?,
            ciphertext,
            ksec_provider: ksec(provider, "Ksec for the provider")?,
            ksec_requester: ksec(requester, "Ksec for the requester")?,
            ksec_patient: ksec(patient, "Ksec for the patient")?,
        })
    }
}

impl SessionRecord {
    fn value(&self) -> Value {
        Value::Array(vec![
            self.sid
                .map_or(Value::Null, |sid| Value::Bytes(sid.to_vec())),
            Value::Array(self.sections.iter().map(Section::value).collect()),
        ])
    }

    fn from_value(value: Value) -> Outcome<Self> {
        let [sid, sections] = take::tuple(value, "session record")?;
        let sections = take::array(sections, "sections", limits::SECTIONS_MAX)?;
        if sections.is_empty() {
            return Err(Failure::bad_input(
                "session: a record has at least one section",
            ));
        }
        Ok(Self {
            sid: take::optional(sid, |v| take::fixed(v, "sid"))?,
            sections: sections
                .into_iter()
                .map(Section::from_value)
                .collect::<Outcome<_>>()?,
        })
    }

    /// CBOR of the record.
    ///
    /// # Errors
    /// `Internal` when the library cannot write it.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        cbor::encode(&self.value())
    }

    /// Reads a record, strictly.
    ///
    /// # Errors
    /// `BadInput` for anything else.
    pub fn decode(bytes: &[u8]) -> Outcome<Self> {
        within_body(bytes)?;
        Self::from_value(cbor::decode(bytes)?)
    }

    /// What the create-session event of this record must say in `sections`.
    ///
    /// # Errors
    /// `Internal` when the library cannot write CBOR.
    pub fn digest(&self) -> Outcome<[u8; 32]> {
        sections_digest(&self.sections)
    }
}

/// SHA-256 of the CBOR array of a record's sections.
///
/// # Errors
/// `Internal` when the library cannot write CBOR.
pub fn sections_digest(sections: &[Section]) -> Outcome<[u8; 32]> {
    let array = Value::Array(sections.iter().map(Section::value).collect());
    Ok(Sha256::digest(cbor::encode(&array)?).into())
}

/// Body of `POST /v1/sessions`.
///
/// # Errors
/// `Internal` when the library cannot write CBOR.
pub fn encode_post(entry: &[u8], record: &SessionRecord) -> Outcome<Vec<u8>> {
    cbor::encode(&Value::Array(vec![
        Value::Bytes(entry.to_vec()),
        record.value(),
    ]))
}

/// Entry and record of a body of `POST /v1/sessions`, strictly.
///
/// # Errors
/// `BadInput` for anything else.
pub fn decode_post(body: &[u8]) -> Outcome<(Vec<u8>, SessionRecord)> {
    within_body(body)?;
    let [entry, record] = take::tuple(cbor::decode(body)?, "session post")?;
    Ok((
        take::bytes(entry, "entry")?,
        SessionRecord::from_value(record)?,
    ))
}

fn within_body(bytes: &[u8]) -> Outcome<()> {
    if bytes.len() > limits::BODY_BYTES_MAX {
        return Err(Failure::bad_input(
            "session: longer than a request body may be",
        ));
    }
    Ok(())
}
