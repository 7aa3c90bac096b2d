//! A process that may have few files open, and more clients than that.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use tokio::net::TcpStream;

use crate::support::client::{Client, raw};
use crate::support::peer::Upstream;
use crate::support::program::{KeptPort, Running, listener, mapping, nuncio};
use crate::support::waiting::eventually;

/// Silent connections: more than there are descriptors.
const SILENT: usize = 400;

struct Bounded {
    program: Running,
    address: SocketAddr,
    admin: SocketAddr,
    _kept: KeptPort,
    _folder: tempfile::TempDir,
}

/// A gateway under the limits on open files that `ulimit` sets with these arguments.
async fn gateway(limits: &str, upstream: &Upstream) -> Bounded {
    let kept = KeptPort::new();
    let folder = tempfile::tempdir().unwrap();
    let text = listener(kept.number) + &mapping("m", "/", &format!("http://{}", upstream.address), &[]);
    std::fs::write(folder.path().join("m.yaml"), text).unwrap();
    let run = nuncio([
        "run",
        "--admin",
        "127.0.0.1:0",
        "--bind",
        "127.0.0.1",
        "--workers",
        "1",
    ]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{limits} && exec \"$0\" \"$@\""))
        .arg(run.get_program())
        .args(run.get_args())
        .arg("--config")
        .arg(folder.path());
    let mut program = Running::start(command);
    program.logged(" ready").await;
    Bounded {
        address: (Ipv4Addr::LOCALHOST, kept.number).into(),
        admin: program.admin().await,
        program,
        _kept: kept,
        _folder: folder,
    }
}

impl Bounded {
    async fn silent_clients(&self) -> Vec<TcpStream> {
        let mut silent = Vec::new();
        for _ in 0..SILENT {
            silent.push(TcpStream::connect(self.address).await.unwrap());
        }
        silent
    }

    async fn get(&self) -> u16 {
        let mut client = Client::http1(self.address).await;
        client.get("a", "/").await.status.as_u16()
    }

    async fn admin(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        raw(self.admin, request).await
    }

    async fn shed(&self) -> u64 {
        let page = self.admin("/metrics").await;
        let line = page
            .lines()
            .find(|line| line.starts_with("nuncio_client_connections_shed_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn the_soft_limit_on_open_files_is_raised_to_the_hard_one() {
    let upstream = Upstream::cleartext().await;
    let gateway = gateway("ulimit -Sn 128", &upstream).await;
    let mut silent = gateway.silent_clients().await;
    assert_eq!(gateway.get().await, 200);
    assert_eq!(gateway.shed().await, 0);
    // The first of them is still served.
    let first = silent.remove(0);
    assert_eq!(Client::http1_over(first).await.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn idle_clients_make_room_where_files_run_out() {
    let upstream = Upstream::cleartext().await;
    let gateway = gateway("ulimit -n 256", &upstream).await;
    let mut kept = Client::http1(gateway.address).await;
    assert_eq!(kept.get("a", "/").await.status, 200);
    let silent = gateway.silent_clients().await;
    assert_eq!(gateway.get().await, 200);
    assert!(
        gateway
            .admin("/ambassador/v0/check_alive")
            .await
            .contains(" 200 ")
    );
    assert!(gateway.shed().await > 0);
    // The longest idle went first.
    let first = async || {
        let mut byte = [0];
        matches!(silent[0].try_read(&mut byte), Ok(0) | Err(_)).then_some(())
    };
    eventually("the first is closed", first).await;
    let told = gateway.program.stderr();
    let told = told
        .iter()
        .filter(|line| line.contains("files that the process may have open"));
    assert_eq!(told.count(), 1);
}
