//! A receiver that reads HTTP by itself, and badly.

use std::io;

use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
    runtime::Runtime,
};

use super::{Receiver, listen, url};

/// Serves the router behind a front that takes white space around a header's value for a part of the value.
pub(crate) fn keeps_white_space(app: impl FnOnce() -> Router) -> Receiver {
    let runtime = Runtime::new().expect("a runtime");
    let (front, inner, app) = runtime.block_on(async { (listen().await, listen().await, app()) });
    let (url, target) = (url(&front), inner.local_addr().expect("an address"));
    runtime.spawn(async move { axum::serve(inner, app).await });
    runtime.spawn(async move {
        while let Ok((socket, _)) = front.accept().await {
            tokio::spawn(async move { serve(socket, TcpStream::connect(target).await?).await });
        }
    });
    Receiver { url, _runtime: runtime }
}

async fn serve(mut client: TcpStream, mut inner: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let signature = text.lines().find_map(|line| line.strip_prefix("x-klikit-signature: "));
    if signature.is_some_and(|value| value.trim() != value) {
        let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        client.write_all(answer.as_bytes()).await?;
        // Reading the rest keeps the answer from being lost in a reset.
        client.shutdown().await?;
        while client.read_buf(&mut head).await? > 0 {}
        return Ok(());
    }
    inner.write_all(&head).await?;
    copy_bidirectional(&mut client, &mut inner).await.map(drop)
}
