//! Stories that touch the source, told once more with an Esplora server alone, and some with one beside ElectrumX.
//!
//! The same functions as on Electrum: nothing of a node's behaviour may depend on which server it follows. Not told
//! again: what never reaches a server (invoices, refusals of the command line, peers), and what looks at Electrum's own
//! protocol; for the latter see `esplora`.

use crate::support::world::{Kind, with};

/// A module of stories in worlds of one kind.
macro_rules! stories {
    ($(#[$doc:meta])* $module:ident, $kind:ident: $($room:ident { $($story:ident),+ $(,)? })+) => {
        $(#[$doc])*
        mod $module {
            $(mod $room {
                $(#[test]
                fn $story() {
                    super::super::with(super::super::Kind::$kind, crate::$room::$story);
                })+
            })+
        }
    };
}

stories! {
    /// An Esplora is all there is.
    alone, Esplora:
    onchain {
        a_withdrawal_is_sent_confirmed_and_booked_with_its_fee,
        everything_can_be_sent_away,
        a_withdrawal_that_no_server_took_is_sent_again_after_a_restart,
    }
    wallet {
        a_node_restored_from_its_words_finds_deposits_up_to_the_gap_and_from_there_on,
        a_deposit_that_its_payer_takes_back_is_no_longer_pending_and_booked_as_gone,
        a_deposit_whose_fee_its_payer_raises_is_counted_once,
        a_withdrawal_whose_coins_the_same_words_spent_elsewhere_is_booked_as_failed,
    }
    channels {
        a_channel_opens_carries_payments_both_ways_and_closes_by_agreement,
        several_channels_with_one_peer_are_funded_from_what_is_left,
        a_funding_locks_its_coins_until_it_confirms,
    }
    payments {
        a_payment_over_three_nodes_earns_the_middle_one_its_fee,
        a_payment_to_one_who_is_away_fails_for_certain_and_can_be_made_later,
    }
    outcomes {
        a_payment_without_an_answer_is_unknown_until_a_named_block_and_its_success_is_found_later,
        stop_does_not_wait_for_a_payment_that_is_out_and_the_book_tells_its_end_after_the_restart,
    }
    refusals {
        a_peer_that_closes_the_channel_gives_us_our_share,
    }
    force_close {
        the_one_who_closes_by_force_gets_its_share_after_the_delay,
        the_one_who_did_not_fund_can_close_by_force_too,
        a_force_close_while_the_other_is_away_is_found_when_it_returns,
        a_force_close_for_which_fees_have_risen_is_paid_for_by_a_child,
        a_revoked_commitment_is_punished_before_the_next_block_and_the_whole_channel_is_ours,
    }
    gossip {
        a_public_channel_is_known_to_others_who_pay_over_it_without_a_hint,
    }
    ladder {
        a_node_that_hears_of_no_block_pays_forwards_and_takes_nothing_closes_nothing_and_recovers,
    }
    clock {
        a_clock_that_jumps_back_while_the_node_runs_is_said_and_blocks_are_still_taken,
    }
    recovery {
        an_older_copy_of_the_directory_is_refused_and_nothing_is_broadcast,
        an_older_copy_whose_owner_gives_its_channels_up_gets_the_money_back,
        a_peer_that_proves_us_behind_is_believed_before_anything_old_is_broadcast,
        a_lost_disk_comes_back_from_the_words_and_the_backup_even_when_stopped_in_the_middle,
        the_words_alone_find_what_a_close_has_paid,
        a_stopped_node_that_moves_to_another_machine_goes_on,
    }
    reorgs {
        a_deposit_taken_back_with_its_block_is_pending_again_and_then_confirmed_elsewhere,
        a_deposit_that_moves_to_another_block_of_the_same_height_is_proven_again,
        a_funding_taken_back_before_the_channel_is_ready_confirms_again_and_the_channel_lives,
        a_shallow_reorganisation_leaves_a_ready_channel_alone,
        a_funding_taken_back_after_the_channel_was_ready_closes_it_and_the_money_stays_in_view,
    }
    restarts {
        a_restart_changes_nothing,
        a_node_killed_while_its_channel_opens_finishes_opening_it,
        a_channel_that_confirmed_while_we_were_down_is_usable_after_the_start,
        a_payer_killed_while_its_payment_is_out_tells_the_truth_afterwards,
        a_payee_killed_while_a_payment_comes_in_tells_the_truth_afterwards,
    }
    servers {
        a_server_that_goes_away_is_waited_for_and_what_was_missed_is_caught_up,
        the_next_server_takes_over_when_the_first_dies,
        channels_work_on_after_the_server_was_away,
        a_node_that_starts_without_any_server_shows_what_it_has_and_goes_on_when_one_comes,
    }
}

stories! {
    /// An Esplora beside ElectrumX.
    beside, Both:
    onchain {
        a_withdrawal_is_sent_confirmed_and_booked_with_its_fee,
    }
    channels {
        a_channel_opens_carries_payments_both_ways_and_closes_by_agreement,
    }
    force_close {
        a_force_close_while_the_other_is_away_is_found_when_it_returns,
        a_revoked_commitment_is_punished_before_the_next_block_and_the_whole_channel_is_ours,
    }
    reorgs {
        a_funding_taken_back_before_the_channel_is_ready_confirms_again_and_the_channel_lives,
    }
    servers {
        a_server_that_goes_away_is_waited_for_and_what_was_missed_is_caught_up,
    }
}
