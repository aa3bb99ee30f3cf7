//! A wall clock that a test sets, for one process: a library that stands before the system's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `CLOCK_REALTIME` and its relatives, shifted by the seconds that a file holds; monotonic time stays as it is.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    const char *path = getenv("CLOCK_SHIFT");
    char text[32] = {0};
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    return got > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}
"#;

/// A clock that is off by some seconds, for the processes that are started with it.
pub(crate) struct WrongClock {
    library: PathBuf,
    shift: PathBuf,
}

impl WrongClock {
    /// Makes the library in `folder` with the C compiler that Rust needs anyway.
    pub(crate) fn new(folder: &Path, off_by: i64) -> Self {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        std::fs::write(&source, SHIM).expect("the test's own folder");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        assert!(cc.status().expect("a C compiler").success(), "the shim does not compile");
        let clock = Self { library, shift: folder.join("clock.shift") };
        clock.set(off_by);
        clock
    }

    /// From now on it is off by so many seconds.
    pub(crate) fn set(&self, off_by: i64) {
        // In one step: the process reads it all the time.
        let new = self.shift.with_extension("new");
        std::fs::write(&new, off_by.to_string()).expect("the test's own folder");
        std::fs::rename(&new, &self.shift).expect("the test's own folder");
    }

    /// For the environment of a process.
    pub(crate) fn variables(&self) -> [(&str, &str); 2] {
        let text = |path: &'_ PathBuf| -> &'static str { path.display().to_string().leak() };
        [("LD_PRELOAD", text(&self.library)), ("CLOCK_SHIFT", text(&self.shift))]
    }
}
