//! What only the demo's server has: no server of `chordae serve` gives out a key, or makes a copy to break.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use chordae::{
    commands::init,
    folder::Folder,
    server::{self, Server, Started},
    settings::Settings,
};
use chordae_base::seams::real::{OsClock, OsEntropy};
use chordae_ingest::fanout::NoFanout;

const SETTINGS: &str = "[mqtt]\ntls = \"off\"\nplain = \"127.0.0.1:0\"\n\
    [zmq]\ntls = \"off\"\nplain = \"off\"\n\
    [http]\ntls = \"off\"\nplain = \"127.0.0.1:0\"\n\
    [metrics]\nlisten = \"127.0.0.1:0\"\n\
    [wal]\nmax-bytes = 268435456\nmin-free-bytes = 67108864\n";

/// The status of an answer.
fn asked(addr: SocketAddr, method: &str, path: &str, more: &str) -> u16 {
    let mut stream = TcpStream::connect(addr).unwrap();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_has_nothing_of_the_demo() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    init::make(&data, Some("chordae.local/test"), &[], &OsClock, &OsEntropy).unwrap();
    let home = Folder::new(data);
    std::fs::write(home.settings(), SETTINGS).unwrap();
    let settings = Settings::read(&home.settings(), &[]).unwrap();
    let seams = server::real(Arc::new(NoFanout));
    // As `chordae serve` starts it.
    let Started::Whole(server) =
        Server::start_or_read(home, settings, seams, prometheus::Registry::new())
            .await
            .unwrap()
    else {
        panic!("it only reads");
    };
    let addr = server.address("http-plain").unwrap();
    let statuses = tokio::task::spawn_blocking(move || {
        let of = |method, path, more| asked(addr, method, path, more);
        let json = "Content-Type: application/json\r\nContent-Length: 0\r\n";
        // A copy that is asked for is not heard of: the real answer is given, or its refusal.
        let copy = "Chordae-Demo-Copy: 0\r\n";
        [
            of("GET", "/demo", ""),
            of("GET", "/demo.js", ""),
            of("GET", "/demo/clinician", ""),
            of("POST", "/demo/copies", json),
            of("GET", "/", ""),
            of("GET", "/ledger/checkpoint", copy),
            of("GET", "/v1/streams", copy),
        ]
    });
    // The controls: the viewer is there, and the ledger; a request that nobody signed is refused.
    assert_eq!(statuses.await.unwrap(), [404, 404, 404, 404, 200, 200, 401]);
    server.stop().await.unwrap();
}
