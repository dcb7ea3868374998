//! Servers of crates, bare: what they acknowledge is in their memory.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use chordae_base::{Failure, Outcome};
use zeromq::{Socket as _, SocketRecv as _, SocketSend as _};

use super::{tell, until_told};

/// A broker with one MQTT 5 listener.
pub(super) fn rumqttd() -> Outcome<()> {
    let os = |e: std::io::Error| Failure::os("start rumqttd", &e);
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(os)?;
    let address = socket.local_addr().map_err(os)?;
    drop(socket);
    let config = serde_json::json!({
        "id": 0,
        "router": {"max_connections": 1000, "max_outgoing_packet_count": 200,
                   "max_segment_size": 104_857_600, "max_segment_count": 10},
        "v5": {"1": {"name": "v5", "listen": address, "next_connection_delay_ms": 1,
            "connections": {"connection_timeout_ms": 60000, "max_payload_size": 300_000,
                            "max_inflight_count": 100, "dynamic_filters": true}}},
    });
    let config: rumqttd::Config = serde_json::from_value(config)
        .map_err(|e| Failure::internal(format!("settings of rumqttd: {e}")))?;
    thread::spawn(move || rumqttd::Broker::new(config).start().ok());
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            tell(address)?;
            return until_told();
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(Failure::io("rumqttd does not listen"))
}

/// A ROUTER that answers each frame with its number on this connection.
pub(super) fn zeromq() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::os("start threads", &e))?;
    let bad = |e: zeromq::ZmqError| Failure::io(format!("zeromq: {e}"));
    runtime.spawn(async move {
        let done = async {
            let mut socket = zeromq::RouterSocket::new();
            let bound = socket.bind("tcp://127.0.0.1:0").await.map_err(bad)?;
            let text = bound.to_string();
            let address: Option<SocketAddr> =
                text.strip_prefix("tcp://").and_then(|a| a.parse().ok());
            tell(address.ok_or_else(|| Failure::internal(text))?)?;
            let mut numbers: BTreeMap<bytes::Bytes, u64> = BTreeMap::new();
            loop {
                let message = socket.recv().await.map_err(bad)?.into_vec();
                let [peer, word, stream, _] = message.as_slice() else {
                    continue;
                };
                let next = numbers.entry(peer.clone()).or_default();
                let number = if word.as_ref() == b"birth" {
                    u64::MAX
                } else {
                    *next
                };
                *next += u64::from(number != u64::MAX);
                let number = bytes::Bytes::copy_from_slice(&number.to_be_bytes());
                let boot = bytes::Bytes::from_static(&[0; 8]);
                let parts = [
                    peer.clone(),
                    "ack".into(),
                    stream.clone(),
                    boot,
                    number.clone(),
                    number,
                ];
                let answer = zeromq::ZmqMessage::try_from(parts.to_vec());
                let answer = answer.map_err(|_| Failure::internal("an empty answer"))?;
                // The peer may be gone.
                socket.send(answer).await.ok();
            }
        };
        let ended: Outcome<()> = done.await;
        if let Err(failure) = ended {
            eprintln!("zeromq: {failure}");
            std::process::exit(1);
        }
    });
    until_told()
}
