//! What is left when the power fails.

use super::{Disk, expect, put};

#[tokio::test]
async fn an_answer_means_that_it_is_synced() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    for n in 0..20 {
        put(&store, n).await.unwrap();
        expect(&disk.after_power_failure(), &[n]).await;
    }
}

/// Cuts the power after every write of making a store: the file is then made again, or is complete.
#[tokio::test]
async fn a_store_half_made_is_no_obstacle() {
    let mut complete = 0;
    for writes in 0..60 {
        let disk = Disk::default();
        disk.state().writes_left = Some(writes);
        let made = disk.open().is_ok();
        complete += usize::from(made);
        // With all that was written, and with what was synced only.
        for left in [disk.after_power_failure(), disk.after_kill()] {
            let store = left.open().unwrap_or_else(|reason| panic!("after {writes}: {reason:?}"));
            put(&store, 0).await.unwrap();
        }
    }
    assert!((1..59).contains(&complete), "{complete} of 60 were made");
}

/// Cuts the power after every write of repairing a store that had crashed.
#[tokio::test]
async fn a_repair_cut_short_is_no_obstacle() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    for n in 0..30 {
        put(&store, n).await.unwrap();
    }
    let crashed = disk.state().synced.clone();
    let mut complete = 0;
    for writes in 0..40 {
        let disk = Disk::of(crashed.clone());
        disk.state().writes_left = Some(writes);
        complete += usize::from(disk.open().is_ok());
        for left in [disk.after_power_failure(), disk.after_kill()] {
            expect(&left, &[0, 7, 29]).await;
        }
    }
    assert!((1..39).contains(&complete), "{complete} of 40 were repaired");
}
