//! Spans for a collector: OTLP over HTTP, off unless an address is given.
//!
//! ```text
//! a span ends, on any thread ─try_send▶ [ TRACE_QUEUE ] ─▶ one task: up to TRACE_BATCH, or what came in TRACE_EVERY ─POST▶
//!                              full: dropped, counted                             not taken: failed, counted, said at times
//! ```
//!
//! The parts make spans (`tracing::debug_span!`) and know nothing of this; only spans of ours are heard, and no
//! event, since events name whom they are about and spans never do. Nobody waits for the collector: spans are offered, and what
//! it does not take is lost. The orderly stop waits `TRACE_FLUSH_DEADLINE` for the last of them; a crash loses what waits.

use std::{mem, net::IpAddr, path::PathBuf, time::Duration};

use chordae_base::{Failure, Outcome, limits};
use opentelemetry::{Context, KeyValue, Value, trace::TracerProvider};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use prost::Message;
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing_subscriber::{Layer, filter::filter_fn};

use crate::{
    client::{self, Call, Place},
    folder::{self, Folder},
    log::Logged,
};

/// See `chordae.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trace {
    /// `http://HOST:PORT`, `https://HOST:PORT`, or `off`.
    pub otlp: String,
    /// Certificate authority of the collector.
    pub ca: PathBuf,
    /// One trace in so many is sent.
    pub one_in: u32,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            otlp: "off".into(),
            ca: PathBuf::new(),
            one_in: 1,
        }
    }
}

impl Trace {
    fn is_on(&self) -> bool {
        self.otlp != "off"
    }

    /// Bounds that no type expresses.
    ///
    /// # Errors
    /// `BadInput` naming the key.
    pub fn check(&self) -> Outcome<()> {
        if self.one_in == 0 {
            return Err(Failure::bad_input("trace.one-in must be at least 1"));
        }
        if !self.is_on() {
            return Ok(());
        }
        let bad = |why| Failure::bad_input(format!("trace.otlp = {:?}: {why}", self.otlp));
        let (place, _) = Place::prefix(&self.otlp, None).map_err(|f| f.during("trace.otlp"))?;
        match place {
            Place::Url { tls: true, .. } if self.ca.as_os_str().is_empty() => Err(bad(
                "https:// needs trace.ca, the authority that vouches for the collector",
            )),
            Place::Url {
                tls: false, host, ..
            } if !is_here(&host) => Err(bad(
                "without TLS the collector must be on this machine; use https://",
            )),
            _ => Ok(()),
        }
    }

    /// Starts what carries spans, unless it is off. Spans are heard once [`Traces::layer`] is installed.
    ///
    /// # Errors
    /// `BadInput` naming the key; those of reading the authority.
    pub fn start(&self, home: &Folder, metrics: &Registry) -> Outcome<Option<Traces>> {
        self.check()?;
        if !self.is_on() {
            return Ok(None);
        }
        let ca = match self.ca.as_os_str().is_empty() {
            true => None,
            false => {
                let pem = folder::read_small(&home.root().join(&self.ca));
                Some(pem.map_err(|f| f.during("trace.ca"))?)
            }
        };
        let (place, path) = Place::prefix(&self.otlp, ca)?;
        let counted = counted(metrics)?;
        let (offered, waiting) = mpsc::channel(limits::TRACE_QUEUE);
        let (end, ended) = oneshot::channel();
        // Nothing about the machine: what is set here is all that a span says of where it comes from.
        let resource = Resource::builder_empty()
            .with_service_name("chordae")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let carrier = Carrier {
            place,
            target: format!("{path}/v1/traces"),
            resource: (&resource).into(),
            counted: counted.clone(),
            silent: None,
        };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Offering {
                spans: offered,
                dropped: counted.with_label_values(&["dropped"]),
            })
            .with_sampler(Sampler::TraceIdRatioBased(1.0 / f64::from(self.one_in)))
            .with_resource(resource)
            .build();
        Ok(Some(Traces {
            provider,
            carrying: tokio::spawn(carrier.run(waiting, ended)),
            end,
        }))
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn counted(metrics: &Registry) -> Outcome<IntCounterVec> {
    let opts = Opts::new(
        "chordae_trace_spans_total",
        "Spans, by what became of them: sent, dropped because too many waited, failed to be sent.",
    );
    let bad = |e: prometheus::Error| Failure::internal(format!("trace metrics: {e}"));
    let counted = IntCounterVec::new(opts, &["outcome"]).map_err(bad)?;
    for outcome in ["sent", "dropped", "failed"] {
        counted.with_label_values(&[outcome]);
    }
    metrics.register(Box::new(counted.clone())).map_err(bad)?;
    Ok(counted)
}

/// What carries spans, until it is ended.
#[must_use = "spans that wait are lost without an end"]
pub struct Traces {
    provider: SdkTracerProvider,
    carrying: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Traces {
    /// What hears spans: those of our crates, and nothing else.
    pub fn layer(&self) -> impl Layer<Logged> + Send + Sync + use<> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("chordae"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|it| {
                it.is_span() && it.target().starts_with("chordae")
            }))
    }

    /// Sends what waits, for a while.
    pub async fn end(self) {
        // It has ended already only if it panicked.
        self.end.send(()).ok();
        let sent = timeout(limits::TRACE_FLUSH_DEADLINE, self.carrying).await;
        if sent.is_err() {
            tracing::warn!("the collector of traces does not take the last spans; they are lost");
        }
    }
}

/// Where spans end: offered, never waited for.
#[derive(Debug)]
struct Offering {
    spans: mpsc::Sender<SpanData>,
    dropped: IntCounter,
}

impl SpanProcessor for Offering {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    // The library asks when its provider is dropped; the end is [`Traces::end`].
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task that takes spans to the collector.
struct Carrier {
    place: Place,
    target: String,
    resource: ResourceAttributesWithSchema,
    counted: IntCounterVec,
    /// When it was last said that the collector takes nothing; `None` while it does.
    silent: Option<Instant>,
}

impl Carrier {
    async fn run(
        mut self,
        mut waiting: mpsc::Receiver<SpanData>,
        mut ended: oneshot::Receiver<()>,
    ) {
        let (mut batch, mut until, mut over) = (Vec::new(), Instant::now(), false);
        loop {
            let room = limits::TRACE_BATCH - batch.len();
            let go = tokio::select! {
                biased;
                _ = &mut ended, if !over => {
                    over = true;
                    waiting.close();
                    false
                }
                came = waiting.recv_many(&mut batch, room) => {
                    if batch.len() == came {
                        until = Instant::now() + limits::TRACE_EVERY;
                    }
                    // Nothing comes only after the end.
                    came == room || came == 0
                }
                () = sleep_until(until), if !batch.is_empty() => true,
            };
            if go && batch.is_empty() {
                return;
            }
            if go {
                self.carry(mem::take(&mut batch)).await;
            }
        }
    }

    async fn carry(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let sent = timeout(limits::TRACE_SEND_DEADLINE, self.send(batch)).await;
        let sent = sent.unwrap_or_else(|_| Err(Failure::busy("no answer in time")));
        let outcome = if sent.is_ok() { "sent" } else { "failed" };
        self.counted.with_label_values(&[outcome]).inc_by(count);
        match (sent, self.silent) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                tracing::info!("the collector of traces takes spans again");
                self.silent = None;
            }
            (Err(_), Some(said)) if said.elapsed() < limits::TRACE_COMPLAIN_EVERY => {}
            (Err(failure), _) => {
                tracing::warn!(%failure, "the collector of traces (trace.otlp) takes no spans; they are lost, nothing else is");
                self.silent = Some(Instant::now());
            }
        }
    }

    async fn send(&self, mut batch: Vec<SpanData>) -> Outcome<()> {
        batch.iter_mut().for_each(with_numbers);
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let call = Call {
            method: "POST".into(),
            target: self.target.clone(),
            authorization: None,
            body: Some(("application/x-protobuf", request.encode_to_vec())),
        };
        let answer = client::send(&self.place, call, limits::TRACE_ANSWER_BYTES_MAX).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(Failure::refused(format!("it answered {}", answer.status))),
        }
    }
}

/// The way here from `tracing` writes unsigned numbers as text; OpenTelemetry wants numbers. No text of ours is one.
fn with_numbers(span: &mut SpanData) {
    for said in &mut span.attributes {
        if let Value::String(text) = &said.value
            && let Ok(number) = text.as_str().parse()
        {
            said.value = Value::I64(number);
        }
    }
}
