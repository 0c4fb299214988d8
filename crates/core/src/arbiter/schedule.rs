//! The rule of the turns, without threads and with any clock.
//!
//! Interactive runs go before bulk ones, whichever models they are of. Bulk has a share of the time guaranteed: while an
//! interactive run computes and a bulk run waits, time is put down that bulk is owed, and once that is a slice bulk runs
//! until the debt is paid. Runs of one lane take turns of a slice, so that a short run of one model does not wait for the
//! end of a long one of another.

use super::Lane;
use std::collections::VecDeque;

/// Share of the time that bulk gets while interactive runs could use all of it.
const SHARE: f64 = 0.1;
/// Seconds that a run may compute before others of its lane, and that bulk is owed before it interrupts: long beside the
/// cost of changing over, short beside a request.
const SLICE: f64 = 0.005;
/// Most seconds that are put down for or against bulk, so that no lane pays for long for what was long ago.
const MOST_OWED: f64 = 1.0;

/// Who waits, who runs and what is owed; times are seconds of any clock that only goes forward.
#[derive(Default)]
pub(super) struct Book {
    waiting: [VecDeque<u64>; 2],
    running: Option<Lane>,
    /// When the running one began its turn.
    began: f64,
    /// Up to when time was put down.
    booked: f64,
    /// Seconds that bulk has coming; below zero when it had more than its share.
    owed: f64,
    tickets: u64,
}

impl Book {
    /// Whether somebody of this lane waits.
    pub fn waits(&self, lane: Lane) -> bool {
        !self.waiting[lane as usize].is_empty()
    }

    /// Puts down the time since the last call.
    fn book(&mut self, now: f64) {
        let time = now - self.booked;
        self.booked = now;
        match self.running {
            Some(Lane::Interactive) if self.waits(Lane::Bulk) => self.owed += time * SHARE / (1.0 - SHARE),
            Some(Lane::Bulk) if self.waits(Lane::Interactive) => self.owed -= time,
            // What nobody else wanted pays a debt and is not held against bulk.
            Some(Lane::Bulk) => self.owed = (self.owed - time).max(self.owed.min(0.0)),
            _ => {}
        }
        self.owed = self.owed.clamp(-MOST_OWED, MOST_OWED);
    }

    /// Puts a run at the end of its lane. The time until now passed without it: it is put down first.
    pub fn queue(&mut self, lane: Lane, now: f64) -> u64 {
        self.book(now);
        self.tickets += 1;
        self.waiting[lane as usize].push_back(self.tickets);
        self.tickets
    }

    /// Who begins when nobody runs.
    fn next(&self) -> Option<(Lane, u64)> {
        let first = |lane: Lane| self.waiting[lane as usize].front().map(|ticket| (lane, *ticket));
        if self.owed >= SLICE && self.waits(Lane::Bulk) {
            return first(Lane::Bulk);
        }
        first(Lane::Interactive).or_else(|| first(Lane::Bulk))
    }

    /// Lets the run with this ticket begin if it is next.
    pub fn begin(&mut self, ticket: u64, now: f64) -> bool {
        let Some((lane, _)) = self
            .next()
            .filter(|(_, next)| self.running.is_none() && *next == ticket)
        else {
            return false;
        };
        self.book(now);
        self.waiting[lane as usize].pop_front();
        self.running = Some(lane);
        self.began = now;
        true
    }

    /// Whether the running one should let another go first.
    pub fn gives_way(&mut self, now: f64) -> bool {
        self.book(now);
        let used_up = now - self.began >= SLICE;
        match self.running {
            Some(Lane::Interactive) => {
                self.waits(Lane::Bulk) && self.owed >= SLICE || self.waits(Lane::Interactive) && used_up
            }
            Some(Lane::Bulk) => self.waits(Lane::Interactive) && self.owed <= 0.0 || self.waits(Lane::Bulk) && used_up,
            None => false,
        }
    }

    /// The running one has ended, or gives way.
    pub fn end(&mut self, now: f64) {
        self.book(now);
        self.running = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in a simulation: steps of `step` seconds, `left` of them; then it ends, and comes again `again` seconds
    /// later.
    #[derive(Clone, Copy)]
    struct Load {
        lane: Lane,
        step: f64,
        steps: usize,
        again: f64,
    }

    /// What a load got: seconds of computing, how often it ended, and the longest it took from coming to the end.
    #[derive(Clone, Copy, Default)]
    struct Got {
        seconds: f64,
        ended: usize,
        longest: f64,
    }

    /// Plays `seconds` of these loads with a clock of its own.
    fn play(loads: &[Load], seconds: f64) -> Vec<Got> {
        let mut book = Book::default();
        let mut got = vec![Got::default(); loads.len()];
        let mut left: Vec<usize> = loads.iter().map(|load| load.steps).collect();
        let mut came = vec![0.0; loads.len()];
        let mut tickets: Vec<Option<u64>> = loads.iter().map(|load| Some(book.queue(load.lane, 0.0))).collect();
        let mut running: Option<usize> = None;
        let mut now = 0.0;
        let arrive = |book: &mut Book, tickets: &mut [Option<u64>], running, came: &[f64], now| {
            for (number, load) in loads.iter().enumerate() {
                if tickets[number].is_none() && running != Some(number) && came[number] <= now {
                    tickets[number] = Some(book.queue(load.lane, now));
                }
            }
        };
        while now < seconds {
            arrive(&mut book, &mut tickets, running, &came, now);
            if running.is_none() {
                running =
                    (0..loads.len()).find(|number| tickets[*number].is_some_and(|ticket| book.begin(ticket, now)));
                match running {
                    Some(number) => tickets[number] = None,
                    None => {
                        now = came.iter().copied().filter(|time| *time > now).fold(f64::MAX, f64::min);
                        continue;
                    }
                }
            }
            let number = running.unwrap();
            now += loads[number].step;
            got[number].seconds += loads[number].step;
            left[number] -= 1;
            arrive(&mut book, &mut tickets, running, &came, now);
            if left[number] == 0 {
                book.end(now);
                running = None;
                got[number].ended += 1;
                got[number].longest = got[number].longest.max(now - came[number]);
                left[number] = loads[number].steps;
                came[number] = now + loads[number].again;
            } else if tickets.iter().any(Option::is_some) && book.gives_way(now) {
                // As `Turn::pause`, which looks no further where nobody waits.
                book.end(now);
                running = None;
                tickets[number] = Some(book.queue(loads[number].lane, now));
            }
        }
        got
    }

    const QUERY: Load = Load {
        lane: Lane::Interactive,
        step: 0.0005,
        steps: 80,
        again: 0.0,
    };
    const BATCH: Load = Load {
        lane: Lane::Bulk,
        step: 0.015,
        steps: 80,
        again: 0.0,
    };

    #[test]
    fn bulk_has_its_share_of_a_flood_and_no_more() {
        for step in [0.0001, 0.002, 0.015, 0.1] {
            for queries in 1..4 {
                let loads: Vec<Load> = vec![QUERY; queries]
                    .into_iter()
                    .chain([Load { step, ..BATCH }])
                    .collect();
                let got = play(&loads, 100.0);
                let bulk = got[queries].seconds / 100.0;
                assert!(
                    (0.09..0.12).contains(&bulk),
                    "{queries} queries, steps of {step} s: {bulk}"
                );
            }
        }
    }

    #[test]
    fn time_that_nobody_waited_through_is_nobodys_debt() {
        for (alone, comes) in [(Lane::Bulk, Lane::Interactive), (Lane::Interactive, Lane::Bulk)] {
            let mut book = Book::default();
            let ticket = book.queue(alone, 0.0);
            assert!(book.begin(ticket, 0.0));
            book.queue(comes, 7.0);
            book.book(7.0);
            assert_eq!(book.owed, 0.0, "{alone:?} alone for 7 s");
        }
    }

    #[test]
    fn a_query_now_and_then_hardly_waits() {
        let now_and_then = Load { again: 0.3, ..QUERY };
        let got = play(&[now_and_then, BATCH], 100.0);
        // 40 ms of its own, one step on arrival, and at most one step of what bulk is owed meanwhile.
        assert!(got[0].longest < 0.04 + 2.0 * 0.015 + 0.005, "{}", got[0].longest);
        assert!(got[0].seconds + got[1].seconds > 99.9, "nobody waits for nothing");
    }

    #[test]
    fn models_take_turns_within_a_lane() {
        let short = Load { steps: 4, ..QUERY };
        let long = Load {
            lane: Lane::Interactive,
            ..BATCH
        };
        let got = play(&[Load { again: 0.1, ..short }, long], 100.0);
        assert!(got[0].longest < 0.015 + 0.002 + 1e-9, "{}", got[0].longest);
        let got = play(&[BATCH, BATCH, BATCH], 100.0);
        assert!(got.iter().all(|got| (got.seconds - 100.0 / 3.0).abs() < 1.0));
    }

    #[test]
    fn whatever_comes_is_served() {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let loads: Vec<Load> = (0..=random(5))
                .map(|_| Load {
                    lane: if random(2) == 0 { Lane::Interactive } else { Lane::Bulk },
                    step: (1 + random(50)) as f64 * 0.0005,
                    steps: 1 + random(60) as usize,
                    again: random(3) as f64 * 0.02,
                })
                .collect();
            let got = play(&loads, 300.0);
            assert!(got.iter().all(|got| got.ended > 0));
        }
    }
}
