//! The bytes of one file, twice: as programs see them, and as a power loss leaves them.
//!
//! Sparse pages, shared between the two sides until one is written: a sync costs what was written since the last one.
//! `dirty` holds each sector written since the last sync with the stamp of its newest write; a sector overwritten
//! twice arrives in its newest form or not at all, as in a page cache.

use std::{collections::BTreeMap, sync::Arc};

use crate::luck::Luck;

/// What a disk writes whole or not at all.
pub const SECTOR: u64 = 512;
const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;

type Page = Arc<[u8; PAGE_BYTES]>;

#[derive(Debug, Default, Clone)]
struct Side {
    len: u64,
    pages: BTreeMap<u64, Page>,
}

impl Side {
    fn put(&mut self, at: u64, data: &[u8]) {
        let (mut at, mut data) = (at, data);
        while !data.is_empty() {
            let within = (at % PAGE) as usize;
            let n = data.len().min(PAGE_BYTES - within);
            let (now, later) = data.split_at(n);
            let page = self.pages.entry(at / PAGE).or_insert_with(blank);
            if let Some(room) = Arc::make_mut(page).get_mut(within..within + n) {
                room.copy_from_slice(now);
            }
            at += n as u64;
            data = later;
        }
        self.len = self.len.max(at);
    }

    fn get(&self, at: u64, len: u64) -> Vec<u8> {
        let end = at.saturating_add(len).min(self.len);
        let mut out = Vec::new();
        let mut at = at;
        while at < end {
            let within = at % PAGE;
            let n = (PAGE - within).min(end - at) as usize;
            let within = within as usize;
            match self
                .pages
                .get(&(at / PAGE))
                .and_then(|p| p.get(within..within + n))
            {
                Some(bytes) => out.extend_from_slice(bytes),
                None => out.resize(out.len() + n, 0),
            }
            at += n as u64;
        }
        out
    }

    fn resize(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            let within = (len % PAGE) as usize;
            if let Some(page) = self.pages.get_mut(&(len / PAGE))
                && let Some(rest) = Arc::make_mut(page).get_mut(within..)
            {
                rest.fill(0);
            }
        }
        self.len = len;
    }
}

fn blank() -> Page {
    Arc::new([0; PAGE_BYTES])
}

/// See the module.
#[derive(Debug, Default)]
pub struct Bytes {
    live: Side,
    durable: Side,
    dirty: BTreeMap<u64, u64>,
}

impl Bytes {
    /// Length as programs see it.
    pub fn len(&self) -> u64 {
        self.live.len
    }

    /// Whether programs see nothing in it.
    pub fn is_empty(&self) -> bool {
        self.live.len == 0
    }

    /// Writes at an offset; `stamp` orders the writes of the whole disk.
    pub fn write(&mut self, at: u64, data: &[u8], stamp: u64) {
        self.live.put(at, data);
        let end = at.saturating_add(data.len() as u64);
        for sector in at / SECTOR..end.div_ceil(SECTOR) {
            self.dirty.insert(sector, stamp);
        }
    }

    /// Up to `len` bytes from an offset, fewer at the end.
    pub fn read(&self, at: u64, len: u64) -> Vec<u8> {
        self.live.get(at, len)
    }

    /// Cuts or grows; what is new reads as zeros.
    pub fn resize(&mut self, len: u64, stamp: u64) {
        let cut = len.min(self.live.len);
        let gone = self
            .live
            .pages
            .range(cut / PAGE..)
            .map(|(page, _)| page * PAGE / SECTOR);
        self.dirty.extend(gone.map(|sector| (sector, stamp)));
        self.live.resize(len);
    }

    /// Makes bytes and length durable.
    pub fn sync(&mut self) {
        self.durable.resize(self.live.len);
        let pages: Vec<u64> = self.dirty.keys().map(|s| s * SECTOR / PAGE).collect();
        for page in pages {
            match self.live.pages.get(&page) {
                Some(bytes) => drop(self.durable.pages.insert(page, Arc::clone(bytes))),
                None => drop(self.durable.pages.remove(&page)),
            }
        }
        self.dirty.clear();
    }

    /// A sync that failed: what was to be written counts as clean, and no later sync writes it.
    pub fn forget(&mut self) {
        self.dirty.clear();
    }

    /// Bytes that a power loss may take.
    pub fn unsynced(&self) -> u64 {
        self.dirty.len() as u64 * SECTOR
    }

    /// Becomes what a power loss leaves; with luck, some of what was not synced.
    pub fn lose(&mut self, luck: Option<&mut Luck>) {
        if let Some(luck) = luck {
            self.tear(luck);
        }
        self.live = self.durable.clone();
        self.dirty.clear();
    }

    fn tear(&mut self, luck: &mut Luck) {
        let (had, has) = (self.durable.len, self.live.len);
        let (low, high) = (had.min(has), had.max(has));
        // The length may arrive without the bytes, or only part of the way.
        let len = match luck.below(3) {
            0 => had,
            1 => has,
            _ => low + luck.below(high - low + 1),
        };
        let mut order: Vec<(u64, u64)> = self.dirty.iter().map(|(s, stamp)| (*stamp, *s)).collect();
        order.sort_unstable();
        let mut fate = luck.fate(order.len() as u64);
        self.durable.resize(len);
        for (n, (_, sector)) in order.into_iter().enumerate() {
            let at = sector * SECTOR;
            if fate.arrives(n as u64) && at < len {
                let bytes = self.live.get(at, SECTOR.min(len - at));
                self.durable.put(at, &bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(b: &Bytes) -> Vec<u8> {
        b.read(0, 1 << 20)
    }

    #[test]
    fn what_is_synced_stays_and_the_rest_goes() {
        let mut b = Bytes::default();
        b.write(0, b"one", 1);
        b.sync();
        b.write(3, b"two", 2);
        assert_eq!(all(&b), b"onetwo");
        b.lose(None);
        assert_eq!(all(&b), b"one");
    }

    #[test]
    fn an_overwrite_that_was_not_synced_is_undone() {
        let mut b = Bytes::default();
        b.write(0, &[7; 10_000], 1);
        b.sync();
        b.write(5_000, &[8; 100], 2);
        b.resize(6_000, 3);
        b.lose(None);
        assert_eq!(all(&b), [7; 10_000]);
    }

    #[test]
    fn a_cut_and_a_growth_read_as_zeros_in_between() {
        let mut b = Bytes::default();
        b.write(0, &[7; 5_000], 1);
        b.sync();
        b.resize(10, 2);
        b.resize(5_000, 3);
        b.sync();
        b.lose(None);
        assert_eq!(all(&b).iter().filter(|x| **x == 7).count(), 10);
        assert_eq!(b.len(), 5_000);
    }

    #[test]
    fn torn_sectors_are_old_or_new_and_whole() {
        let mut mixed = 0;
        for seed in 0..200 {
            let mut b = Bytes::default();
            b.write(0, &[1; 8 * 512], 1);
            b.sync();
            for n in 0..8 {
                b.write(n * 512, &[2; 512], 2 + n);
            }
            b.lose(Some(&mut Luck::new(seed)));
            let left = all(&b);
            assert_eq!(left.len(), 8 * 512);
            let news = left.chunks(512).filter(|s| **s == [2; 512]).count();
            let olds = left.chunks(512).filter(|s| **s == [1; 512]).count();
            assert_eq!(news + olds, 8, "a sector is half old, half new");
            mixed += usize::from(news > 0 && olds > 0);
        }
        assert!(mixed > 50, "only {mixed} of 200 losses tore anything");
    }

    #[test]
    fn after_a_failed_sync_a_good_one_does_not_bring_the_bytes_back() {
        let mut b = Bytes::default();
        b.write(0, &[7; 512], 1);
        b.forget();
        // In another page: one page is written as a whole.
        b.write(PAGE, &[8; 512], 2);
        b.sync();
        b.lose(None);
        assert!(b.read(0, PAGE) == [0; PAGE_BYTES] && b.read(PAGE, 512) == [8; 512]);
    }
}
