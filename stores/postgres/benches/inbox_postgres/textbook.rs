//! The cases of a textbook queue: one statement for each accepted delivery, and two for each handled one.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use deadpool_postgres::{Manager, Pool};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio_postgres::{NoTls, types::Type};
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{EventId, KlikitVerifyLayer, VerifiedBody, dedupe::BodyDigest};

use crate::{
    deliveries::{SECRET, requests, send_all},
    figures::Figures,
    server::{CONNECTIONS, Server, connect},
};

const TABLES: &str = "
    CREATE TABLE ledger (
        key bytea PRIMARY KEY,
        digest bytea NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE queue (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        state smallint NOT NULL DEFAULT 0,
        attempts integer NOT NULL DEFAULT 0,
        due timestamptz NOT NULL DEFAULT now(),
        head text NOT NULL,
        body bytea NOT NULL
    );
    CREATE INDEX queue_pending ON queue (due, id) WHERE state = 0;";

/// A statement that returns no row for a duplicate.
const INSERT: &str = "
    -- Remember the key, unless it is known.
    WITH remembered AS (
        INSERT INTO ledger (key, digest)
        VALUES ($1, $2)
        ON CONFLICT DO NOTHING
        RETURNING key
    )
    -- Enqueue the delivery only if its key is new.
    INSERT INTO queue (head, body)
    SELECT $3, $4
    FROM remembered
    RETURNING id";
const INSERT_TYPES: [Type; 4] = [Type::BYTEA, Type::BYTEA, Type::TEXT, Type::BYTEA];

/// A statement that leases the delivery that has been due for longest.
const TAKE: &str = "
    UPDATE queue
    SET state = 1, attempts = attempts + 1, due = now() + interval '30 seconds'
    WHERE id IN (
        SELECT id
        FROM queue
        WHERE state = 0 AND due <= now()
        ORDER BY due, id
        FOR UPDATE SKIP LOCKED
        LIMIT 1
    )
    RETURNING id, head, body";

const DELETE: &str = "DELETE FROM queue WHERE id = $1 AND state = 1";

const WORKERS: usize = 10;

/// The way in which statements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statements {
    /// Parsed for each call, as behind a pooler.
    Unnamed,
    /// Prepared once on each connection.
    Prepared,
}

/// A queue in its own tables.
#[derive(Clone)]
pub(crate) struct Textbook {
    pool: Pool,
}

impl Textbook {
    pub(crate) async fn open(url: &str) -> Self {
        connect(url).await.batch_execute(TABLES).await.expect("tables");
        Self { pool: pool(url) }
    }

    pub(crate) async fn accept(&self, server: &Server, count: usize, statements: Statements) -> Figures {
        let requests = requests(count);
        let watch = server.watch(None);
        let times = send_all(requests, self.acceptor(statements)).await;
        let (all, cores) = watch.stop();
        Figures::of_calls(&times, all, cores)
    }

    /// Handles all deliveries in the queue.
    pub(crate) async fn handle(&self, server: &Server) -> Figures {
        let count = self.pending().await;
        let watch = server.watch(None);
        self.work(Arc::new(AtomicBool::new(true))).await;
        let (all, cores) = watch.stop();
        assert_eq!(self.pending().await, 0, "all deliveries are handled");
        Figures::of_count(count, all, cores)
    }

    /// Accepts and handles at the same time. The latencies are those of the acknowledgements.
    pub(crate) async fn live(&self, server: &Server, count: usize) -> Figures {
        let requests = requests(count);
        let is_last = Arc::new(AtomicBool::new(false));
        let watch = server.watch(None);
        let work = {
            let (this, is_last) = (self.clone(), Arc::clone(&is_last));
            tokio::spawn(async move { this.work(is_last).await })
        };
        let times = send_all(requests, self.acceptor(Statements::Unnamed)).await;
        is_last.store(true, Ordering::Release);
        work.await.expect("no panic");
        let (all, cores) = watch.stop();
        assert_eq!(self.pending().await, 0, "all deliveries are handled");
        Figures::of_calls(&times, all, cores)
    }

    fn acceptor(
        &self,
        statements: Statements,
    ) -> impl Fn(Request<Full<Bytes>>) -> BoxFuture<'static, bool> + Clone + use<> {
        let pool = self.pool.clone();
        verified(move |id, body| {
            let pool = pool.clone();
            async move {
                let client = pool.get().await?;
                let (hash, digest) = (BodyDigest::of(id.as_str().as_bytes()), BodyDigest::of(&body));
                let (key, head) = (&hash.as_bytes()[..16], head(id.as_str()));
                let rows = match statements {
                    Statements::Unnamed => {
                        let [key_type, digest_type, head_type, body_type] = INSERT_TYPES;
                        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] = [
                            (&key, key_type),
                            (&digest.as_bytes().as_slice(), digest_type),
                            (&head, head_type),
                            (&&body[..], body_type),
                        ];
                        client.query_typed(INSERT, &params).await?
                    }
                    Statements::Prepared => {
                        let insert = client.prepare_typed_cached(INSERT, &INSERT_TYPES).await?;
                        client.query(&insert, &[&key, &digest.as_bytes().as_slice(), &head, &&body[..]]).await?
                    }
                };
                Ok(rows.len() == 1)
            }
        })
    }

    /// Runs the workers until the queue is empty and no more deliveries will come.
    async fn work(&self, is_last: Arc<AtomicBool>) {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (pool, is_last) = (self.pool.clone(), Arc::clone(&is_last));
                tokio::spawn(async move {
                    loop {
                        let nothing_will_come = is_last.load(Ordering::Acquire);
                        let client = pool.get().await.expect("a connection");
                        let rows = client.query_typed(TAKE, &[]).await.expect("a statement");
                        let Some(row) = rows.first() else {
                            if nothing_will_come {
                                return;
                            }
                            drop(client);
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            continue;
                        };
                        let (id, _body): (i64, Vec<u8>) = (row.get(0), row.get(2));
                        client.query_typed(DELETE, &[(&id, Type::INT8)]).await.expect("a statement");
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.expect("no panic");
        }
    }

    async fn pending(&self) -> usize {
        let client = self.pool.get().await.expect("a connection");
        let rows: i64 = client.query_one("SELECT count(*) FROM queue", &[]).await.expect("a count").get(0);
        usize::try_from(rows).expect("no negative count")
    }
}

pub(crate) fn pool(url: &str) -> Pool {
    let manager = Manager::new(url.parse().expect("a URL"), NoTls);
    Pool::builder(manager).max_size(CONNECTIONS).build().expect("a pool")
}

/// Returns the text that a queue stores with a request's body.
pub(crate) fn head(id: &str) -> String {
    format!(
        r#"{{"method":"POST","uri":"/webhooks/klikit","content_type":"application/json","event_id":"{id}","event_type":"order.created","tenant":"default","secret_id":"0123456789abcdef","received_at":1782000000000}}"#
    )
}

/// Returns a function that verifies a request and stores it with `store`. It returns whether the request was acknowledged.
pub(crate) fn verified<F, Stored>(
    store: F,
) -> impl Fn(Request<Full<Bytes>>) -> BoxFuture<'static, bool> + Clone + use<F, Stored>
where
    F: Fn(EventId, Bytes) -> Stored + Clone + Send + Sync + 'static,
    Stored: Future<Output = Result<bool, Box<dyn std::error::Error>>> + Send,
{
    let handler = service_fn(move |request: Request<VerifiedBody>| {
        let id = request.extensions().get::<EventId>().cloned().expect("an id");
        let stored = store(id, request.into_body().into_bytes());
        async move {
            let status = match stored.await {
                Ok(_) => StatusCode::OK,
                Err(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let service = KlikitVerifyLayer::new(SECRET).layer(handler);
    move |request| {
        let answer = service.clone().oneshot(request);
        Box::pin(async { answer.await.is_ok_and(|response| response.status() == 200) })
    }
}
