//! A daemon that ends at a named place (`lightnode::crash`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lightnode::crash::Point;

use super::daemon::Daemon;
use super::eventually::within;

/// How long nothing must happen until a place is believed not to be passed any more.
const MOMENT: Duration = Duration::from_millis(1500);

/// How long a node may take until it comes to the place.
const DEADLINE: Duration = Duration::from_secs(60);

impl Daemon {
    /// It will be gone at the n-th passing of `point` from now on, and only once.
    pub(crate) fn arm(&self, point: Point, number: u32) {
        let _ = fs::remove_file(self.order("done"));
        // Renamed, so that nobody reads half of it.
        fs::write(self.order("new"), format!("{}:{number}", point.name())).expect("the test's own folder");
        fs::rename(self.order("new"), self.order("crash")).expect("the test's own folder");
    }

    /// True once it has ended where it was told to.
    pub(crate) fn has_crashed(&self) -> bool {
        self.order("done").exists()
    }

    /// Nothing is wanted any more.
    pub(crate) fn disarm(&self) {
        let _ = fs::remove_file(self.order("crash"));
    }

    /// Waits until it has ended where it was told to, and reaps it: true. Where it need not come to that: false once `calm`
    /// holds for a moment.
    pub(crate) fn crashes(&mut self, must: bool, mut calm: impl FnMut(&Self) -> bool) -> bool {
        let mut calm_since: Option<Instant> = None;
        let gone = within(
            DEADLINE,
            "the node to end where it was told to",
            || {
                if self.process().exit_status().is_some() {
                    return Some(true);
                }
                if must || !calm(self) {
                    calm_since = None;
                    return None;
                }
                (calm_since.get_or_insert_with(Instant::now).elapsed() > MOMENT).then_some(false)
            },
            Option::is_some,
        );
        if gone == Some(false) {
            self.disarm();
            // It may have come there in this very moment.
            if !self.has_crashed() {
                return false;
            }
        }
        let status = self.take_process().wait(DEADLINE);
        assert!(self.has_crashed(), "it should have ended where it was told to, and ended with {status}");
        true
    }

    /// A command of its own, which the crash may cut short.
    pub(crate) fn try_json(&self, words: &[&str]) -> Option<serde_json::Value> {
        let ran = self.run(words);
        (ran.code == 0).then(|| ran.json())
    }

    /// From now on, the places that it passes are counted.
    pub(crate) fn record(&self) {
        fs::write(self.order("passed"), "").expect("the test's own folder");
    }

    /// How often it has passed which place since [`Self::record`]; ends the counting.
    pub(crate) fn recorded(&self) -> BTreeMap<Point, u32> {
        let lines = fs::read_to_string(self.order("passed")).expect("places are being counted");
        fs::remove_file(self.order("passed")).expect("the test's own folder");
        let mut counts = BTreeMap::new();
        for line in lines.lines() {
            let point = Point::ALL.iter().find(|point| point.name() == line).expect("the name of a place");
            *counts.entry(*point).or_insert(0) += 1;
        }
        counts
    }

    fn order(&self, ending: &str) -> PathBuf {
        self.folder().with_extension(ending)
    }
}
