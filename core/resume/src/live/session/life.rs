//! Where a session is in its life. All transitions are in one table: [`Life::after`].

/// Where a session is in its life, in this process.
///
/// It begins [`Live`](Self::Live) and has three exits: it has [`Ended`](Self::Ended), it is [`Stored`](Self::Stored), or
/// it was [`TakenOver`](Self::TakenOver). One that has ended is found by its id until its outcome is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Life {
    /// Requests take it, and clients attach to it.
    #[default]
    Live,
    /// It is on its way to the store. A request that asks for it waits, and restores it. Other use calls it back.
    BeingStored,
    /// Its time is up, and its end follows at once. Nothing takes it any more.
    Expiring,
    /// It has an outcome. Clients that come late are told the end.
    Ended(Telling),
    /// It is in the store. Nothing here speaks for it any more.
    Stored,
    /// Another process owns it. Nothing here speaks for it any more.
    TakenOver,
}

/// Whether the outcome of a session that has ended can be polled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Telling {
    /// Its keeper has still to be told.
    Untold,
    /// It waits for the store.
    WaitsForStore,
    Told,
}

/// What happens to a session in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Its time in memory is up: the store shall have it.
    GoesToStore,
    /// It stays after all.
    Stays,
    /// Its time is up.
    Expires,
    Ends,
    /// The store is asked to take its outcome.
    StoresOutcome,
    /// Its outcome can be polled.
    TellsOutcome,
    /// The store has it whole.
    IsStored,
    /// Another process has claimed its record.
    IsTakenOver,
}

impl Life {
    /// Returns where the session is after the change; `None` if the change comes too late, or too early.
    pub(super) fn after(self, change: Change) -> Option<Self> {
        use self::{Change as C, Life as L, Telling as T};
        Some(match (change, self) {
            (C::GoesToStore, L::Live) => L::BeingStored,
            (C::Stays, L::BeingStored) => L::Live,
            (C::Expires, L::Live | L::BeingStored) => L::Expiring,
            (C::Ends, L::Live | L::BeingStored | L::Expiring) => L::Ended(T::Untold),
            (C::StoresOutcome, L::Ended(T::Untold)) => L::Ended(T::WaitsForStore),
            (C::TellsOutcome, L::Ended(T::Untold | T::WaitsForStore)) => L::Ended(T::Told),
            (C::IsStored, L::BeingStored) => L::Stored,
            (C::IsTakenOver, L::Live | L::BeingStored | L::Expiring | L::Ended(_)) => L::TakenOver,
            _ => return None,
        })
    }

    /// Whether it goes on here: requests may find it, if only to wait for the store.
    pub(crate) fn goes_on(self) -> bool {
        matches!(self, Self::Live | Self::BeingStored)
    }

    /// Whether nothing more can be received, sent or saved here.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Ended(_)) || self.has_left()
    }

    /// Whether nothing here speaks for it any more.
    pub(crate) fn has_left(self) -> bool {
        matches!(self, Self::Stored | Self::TakenOver)
    }

    /// Whether its outcome waits for the store.
    pub(crate) fn waits_for_store(self) -> bool {
        self == Self::Ended(Telling::WaitsForStore)
    }

    /// Whether its outcome can be polled.
    pub(crate) fn is_told(self) -> bool {
        self == Self::Ended(Telling::Told)
    }

    /// Whether a request that asks for it must look into the store.
    pub(crate) fn is_on_its_way(self) -> bool {
        matches!(self, Self::BeingStored | Self::Stored)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change as C, Life as L, Telling as T};

    const LIVES: [L; 8] = [
        L::Live,
        L::BeingStored,
        L::Expiring,
        L::Ended(T::Untold),
        L::Ended(T::WaitsForStore),
        L::Ended(T::Told),
        L::Stored,
        L::TakenOver,
    ];

    #[test]
    fn every_change_in_every_place_leads_where_the_table_says() {
        let (untold, waits, told) =
            (L::Ended(T::Untold), L::Ended(T::WaitsForStore), L::Ended(T::Told));
        let taken = Some(L::TakenOver);
        let no = None;
        // From: live, leaving, expiring, ended (untold, waits for the store, told), stored, taken over.
        let table = [
            (C::GoesToStore, [Some(L::BeingStored), no, no, no, no, no, no, no]),
            (C::Stays, [no, Some(L::Live), no, no, no, no, no, no]),
            (C::Expires, [Some(L::Expiring), Some(L::Expiring), no, no, no, no, no, no]),
            (C::Ends, [Some(untold), Some(untold), Some(untold), no, no, no, no, no]),
            (C::StoresOutcome, [no, no, no, Some(waits), no, no, no, no]),
            (C::TellsOutcome, [no, no, no, Some(told), Some(told), no, no, no]),
            (C::IsStored, [no, Some(L::Stored), no, no, no, no, no, no]),
            (C::IsTakenOver, [taken, taken, taken, taken, taken, taken, no, no]),
        ];
        for (change, expected) in table {
            for (life, expected) in LIVES.into_iter().zip(expected) {
                assert_eq!(life.after(change), expected, "{change:?} of {life:?}");
            }
        }
    }

    #[test]
    fn what_is_over_does_not_go_on() {
        for life in LIVES {
            let asked = (life.goes_on(), life.is_over(), life.has_left(), life.is_on_its_way());
            let expected = match life {
                L::Live => (true, false, false, false),
                L::BeingStored => (true, false, false, true),
                L::Expiring => (false, false, false, false),
                L::Ended(_) => (false, true, false, false),
                L::Stored => (false, true, true, true),
                L::TakenOver => (false, true, true, false),
            };
            assert_eq!(asked, expected, "{life:?}");
        }
    }

    #[test]
    fn an_exit_is_for_good() {
        let changes = [
            C::GoesToStore,
            C::Stays,
            C::Expires,
            C::Ends,
            C::StoresOutcome,
            C::TellsOutcome,
            C::IsStored,
            C::IsTakenOver,
        ];
        for life in LIVES.into_iter().filter(|life| life.is_over()) {
            for after in changes.into_iter().filter_map(|change| life.after(change)) {
                assert!(after.is_over(), "{life:?} has become {after:?}");
            }
        }
    }
}
