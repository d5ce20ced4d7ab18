//! Tickets for the kitchen, and the printer.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use tempfile::NamedTempFile;
use tower_klikit::{
    FailureReason,
    payload::{Order, OrderStatus, Quantity},
};

/// A ticket for the kitchen, without customers' names and addresses.
pub(crate) struct Ticket {
    /// The name of the ticket's file, without the version.
    name: String,
    headline: &'static str,
    text: String,
}

impl Ticket {
    /// Makes the ticket of an order. Returns `None` if the kitchen has nothing to do. Uses only the body, because klikit's
    /// signature covers the body, and not the event type.
    pub(crate) fn of(order: &Order) -> Result<Option<Self>, FailureReason> {
        let (id, status) = (order.require_id()?, order.require_status()?);
        let (action, headline, cart) = match status {
            OrderStatus::PLACED | OrderStatus::ACCEPTED => ("cook", "COOK", cart(order)?),
            OrderStatus::CANCELLED => ("stop", "STOP", String::new()),
            // The kitchen ignores other codes, including future ones.
            _ => {
                println!(" ignored  order {id:?} in state {status}");
                return Ok(None);
            }
        };
        let text = format!("order {id} {}\n{cart}", order.external_id().unwrap_or_default());
        // An id can be any text: keep it from being a path.
        let id = id.as_str().bytes().map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        });
        Ok(Some(Self { name: format!("order-{}-{action}", id.collect::<String>()), headline, text }))
    }
}

/// Returns the lines of an order's cart. If the cart cannot be read, these are its JSON.
fn cart(order: &Order) -> Result<String, FailureReason> {
    let error = match order.require::<Vec<Item>>("cart") {
        Ok(items) if items.is_empty() => return Err(FailureReason::new("`cart` is empty")),
        Ok(items) => match items.iter().map(Item::lines).collect() {
            Some(lines) => return Ok(lines),
            None => "an item has no title".into(),
        },
        Err(error) => error.to_string(),
    };
    match order.get("cart") {
        Some(json) if json.get() != "null" => Ok(format!("CANNOT READ THE CART: {error}\n{json}\n")),
        _ => Err(FailureReason::new(error)),
    }
}

/// An item in a cart, or a modifier of an item. klikit documents no fields of items: check these against your own deliveries.
#[derive(Deserialize)]
#[serde(expecting = "an item")]
struct Item {
    title: Option<String>,
    name: Option<String>,
    quantity: Quantity,
    comment: Option<String>,
    modifiers: Option<Vec<Self>>,
    groups: Option<Vec<Group>>,
}

/// A group of modifiers.
#[derive(Deserialize)]
#[serde(expecting = "a group")]
struct Group {
    modifiers: Vec<Item>,
}

impl Item {
    /// Returns the lines of the item and its modifiers. `None` if one of them has no title.
    fn lines(&self) -> Option<String> {
        let title = self.title.as_ref().or(self.name.as_ref())?;
        let mut lines = format!("{:>4} x {title}\n", self.quantity);
        for modifier in self.groups.iter().flatten().map(|group| &group.modifiers).chain(&self.modifiers).flatten() {
            lines += &format!("   {}", modifier.lines()?);
        }
        if let Some(comment) = self.comment.as_ref().filter(|comment| !comment.is_empty()) {
            lines += &format!("       ! {comment}\n");
        }
        Some(lines)
    }
}

/// A printer that prints into files. It needs old tickets in order to recognize copies.
#[derive(Clone)]
pub(crate) struct Printer {
    /// The folder of files that are not complete yet.
    pub(crate) drafts: Arc<Path>,
    pub(crate) tickets: Arc<Path>,
}

impl Printer {
    /// Prints a ticket, unless it equals the last ticket of this name. Blocks the thread.
    ///
    /// Writes a draft first and then gives it the ticket's name. So no incomplete file has the name, and no file is replaced.
    pub(crate) fn print(&self, Ticket { name, headline, text }: &Ticket) -> io::Result<()> {
        let file = |version: u32| self.tickets.join(format!("{name}-{version}.txt"));
        let content = |version| format!("{} {text}", if version == 1 { headline } else { "CHANGED" });
        loop {
            let version = (1..).find(|version| !file(*version).exists()).unwrap_or(u32::MAX);
            if version > 1 && fs::read(file(version - 1))? == content(version - 1).as_bytes() {
                println!(" known    {name}-{}", version - 1);
                return Ok(());
            }
            let mut draft = NamedTempFile::new_in(&self.drafts)?;
            draft.write_all(content(version).as_bytes())?;
            draft.as_file().sync_all()?;
            match draft.persist_noclobber(file(version)) {
                Ok(_) => println!(" printed  {name}-{version}"),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error.error),
            }
            // The name must be durable too.
            return if cfg!(unix) { fs::File::open(&self.tickets)?.sync_all() } else { Ok(()) };
        }
    }
}
