//! The disk as a mounted file system.
//!
//! Nothing is cached in the kernel (direct I/O, no lifetimes of names), so that what a program wrote is here at once,
//! and what a power loss took is gone for the next program without unmounting. Locks and pipes are the kernel's.

use std::{
    ffi::OsStr,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::{
    control::{Disk, Shared, Verdict},
    state::{About, Kind, Op, Wrong},
};

const NEVER: Duration = Duration::ZERO;
const TYPE_MASK: u32 = 0o170_000;
const SOCKET: u32 = 0o140_000;
const REGULAR: u32 = 0o100_000;

/// See the module.
pub struct Mounted(Arc<Shared>);

impl Mounted {
    /// A file system over this disk.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Runs one operation on the disk, if the machine is on.
    fn on<T>(&self, run: impl FnOnce(&mut Disk) -> Result<T, Wrong>) -> Result<T, Errno> {
        let mut disk = self.0.lock();
        let done = disk.alive().and_then(|()| run(&mut disk));
        self.0.look(&disk);
        done.map_err(errno)
    }

    fn make(&self, parent: INodeNo, name: &OsStr, kind: Kind, mode: u32) -> Result<About, Errno> {
        self.on(|disk| {
            let place = disk.state.place_in(parent.0, name);
            disk.change(Op::Create, &place, |state, _| {
                state.create(parent.0, name, kind, mode & 0o7777)
            })
        })
    }

    fn take(&self, parent: INodeNo, name: &OsStr, folder: bool) -> Result<(), Errno> {
        self.on(|disk| {
            let place = disk.state.place_in(parent.0, name);
            disk.change(Op::Remove, &place, |state, _| {
                state.remove(parent.0, name, folder)
            })
        })
    }

    fn size(&self, ino: INodeNo, len: u64) -> Result<(), Errno> {
        self.on(|disk| {
            let place = disk.state.place(ino.0);
            disk.change(Op::Resize, &place, |state, _| state.resize(ino.0, len))
        })
    }
}

fn errno(wrong: Wrong) -> Errno {
    match wrong {
        Wrong::NotFound => Errno::ENOENT,
        Wrong::Exists => Errno::EEXIST,
        Wrong::NotFolder => Errno::ENOTDIR,
        Wrong::Folder => Errno::EISDIR,
        Wrong::NotEmpty => Errno::ENOTEMPTY,
        Wrong::Elsewhere => Errno::EXDEV,
        Wrong::Dead => Errno::EIO,
    }
}

fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Folder => FileType::Directory,
        Kind::Socket => FileType::Socket,
    }
}

fn attr(about: About) -> FileAttr {
    FileAttr {
        ino: INodeNo(about.ino),
        size: about.len,
        blocks: about.len.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: kind(about.kind),
        perm: u16::try_from(about.mode & 0o7777).unwrap_or(0o600),
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(err) => reply.error(err),
    }
}

fn entry(done: Result<About, Errno>, reply: ReplyEntry) {
    match done {
        Ok(about) => reply.entry(&NEVER, &attr(about), Generation(0)),
        Err(err) => reply.error(err),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.on(|disk| disk.state.find(parent.0, name)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.on(|disk| disk.state.about(ino.0)) {
            Ok(about) => reply.attr(&NEVER, &attr(about)),
            Err(err) => reply.error(err),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = match size {
            Some(len) => self.size(ino, len),
            None => Ok(()),
        };
        let done = done.and_then(|()| {
            self.on(|disk| {
                if let Some(mode) = mode {
                    disk.state.set_mode(ino.0, mode & 0o7777)?;
                }
                disk.state.about(ino.0)
            })
        });
        match done {
            Ok(about) => reply.attr(&NEVER, &attr(about)),
            Err(err) => reply.error(err),
        }
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let made = match mode & TYPE_MASK {
            SOCKET => self.make(parent, name, Kind::Socket, mode & !umask),
            REGULAR => self.make(parent, name, Kind::File, mode & !umask),
            _ => Err(Errno::EPERM),
        };
        entry(made, reply);
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        entry(self.make(parent, name, Kind::Folder, mode & !umask), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.take(parent, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.take(parent, name, true), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.on(|disk| {
            let place = disk.state.place_in(newparent.0, newname);
            disk.change(Op::Rename, &place, |state, _| {
                state.rename(parent.0, name, newparent.0, newname)
            })
        });
        empty(done, reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.on(|disk| disk.state.about(ino.0)) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(err) => reply.error(err),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(parent, name, Kind::File, mode & !umask) {
            Ok(about) => reply.created(
                &NEVER,
                &attr(about),
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(err) => reply.error(err),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.on(|disk| disk.state.read(ino.0, offset, u64::from(size))) {
            Ok(bytes) => reply.data(&bytes),
            Err(err) => reply.error(err),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let done = self.on(|disk| {
            let place = disk.state.place(ino.0);
            let taken = disk.takes(data.len());
            let data = data.get(..taken).unwrap_or(data);
            disk.change(Op::Write, &place, |state, _| {
                state.write(ino.0, offset, data)
            })?;
            Ok(taken)
        });
        match done {
            Ok(taken) => reply.written(u32::try_from(taken).unwrap_or(u32::MAX)),
            Err(err) => reply.error(err),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let done = self.on(|disk| {
            let place = disk.state.place(ino.0);
            disk.change(Op::Sync, &place, |state, verdict| match verdict {
                Verdict::Do => state.sync(ino.0),
                Verdict::FailSync => state.fail_sync(ino.0),
                Verdict::Lie => Ok(()),
            })
        });
        empty(done, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let done = self.on(|disk| {
            let place = disk.state.place(ino.0);
            disk.change(Op::SyncDir, &place, |state, verdict| match verdict {
                Verdict::Lie => Ok(()),
                _ => state.sync_dir(ino.0),
            })
        });
        empty(done, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = match self.on(|disk| disk.state.list(ino.0)) {
            Ok(names) => names,
            Err(err) => return reply.error(err),
        };
        let dots =
            [(".", ino), ("..", ino)].map(|(name, ino)| (name.into(), ino, FileType::Directory));
        let named = names
            .into_iter()
            .map(|(name, about)| (name, INodeNo(about.ino), kind(about.kind)));
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let all = dots.into_iter().chain(named).enumerate().skip(from);
        for (n, (name, ino, kind)) in all {
            if reply.add(ino, n as u64 + 1, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // 64 GiB in blocks of 4 KiB, half of it free.
        reply.statfs(1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19, 4096, 255, 4096);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let wanted = offset.saturating_add(length);
        let done = match self.on(|disk| disk.state.about(ino.0)) {
            Ok(about) if about.len >= wanted => Ok(()),
            Ok(_) => self.size(ino, wanted),
            Err(err) => Err(err),
        };
        empty(done, reply);
    }
}
