//! What a server can try, row by row, and the tests that say what it gets.

use std::fs;
use std::path::Path;

/// Number, what a server does, what it must get, and the tests of it (`file::function`, in `tests/`).
type Row = (u8, &'static str, &'static str, &'static [&'static str]);

const ROWS: [Row; 23] = [
    (
        1,
        "withholds the spend of our funding output",
        "any one other server's proof wins; justice before the next block",
        &[
            "hidden_spends::a_spend_that_two_of_three_servers_hide_is_told_on_the_thirds_proof",
            "hidden_spends::a_spend_that_was_hidden_while_we_were_away_is_told_after_the_start",
            "hidden_spends::a_revoked_commitment_that_two_of_three_servers_hide_is_punished_within_one_block_of_the_thirds_word",
            "esplora::a_server_that_lists_nothing_of_a_deposit_cannot_hide_it_in_its_block",
        ],
    ),
    (
        2,
        "floods or empties a history",
        "a degraded watch, said in `status`; the others serve, and it is demoted",
        &[
            "hidden_spends::a_history_that_is_emptied_refused_or_nulled_takes_nothing_back_and_hides_nothing",
            "lying_servers::a_history_that_forgets_a_proven_deposit_takes_nothing_away_and_is_said",
            "demotions::one_server_that_forgets_a_history_is_demoted_and_nothing_is_taken_back",
            "bad_lines::what_a_line_may_hold_is_bounded_and_memory_stays_flat",
        ],
    ),
    (
        3,
        "feeds a slow or frozen tip",
        "rotated after 60 min or when it lags; said after 90; nothing new is risked after 120",
        &[
            "false_chains::a_tip_that_two_of_three_servers_freeze_goes_on_with_the_third",
            "demotions::two_servers_that_stay_more_than_two_blocks_behind_are_demoted_and_the_third_serves",
            "demotions::when_no_block_comes_one_watcher_hands_the_channels_to_the_server_that_had_none",
            "ladder::a_node_that_hears_of_no_block_pays_forwards_and_takes_nothing_closes_nothing_and_recovers",
        ],
    ),
    (
        4,
        "forges a header: no work, wrong bits, another network",
        "refused, banned for 30 days",
        &[
            "false_chains::a_forged_header_bans_its_server_whatever_is_wrong_with_it",
            "lying_servers::a_header_without_work_is_refused_and_the_chain_followed_elsewhere",
            "servers::a_server_of_another_network_is_not_used",
            "duties::a_ban_outlives_a_restart_and_ends_with_forgiveness",
            "esplora::a_block_whose_header_has_no_work_bans_and_the_chain_is_followed_elsewhere",
        ],
    ),
    (
        5,
        "serves a proof of 64 bytes, or at a place out of range",
        "refused; banned where it is a lie and not a block's own doing; no panic",
        &[
            "false_proofs::a_mined_transaction_of_64_bytes_is_told_for_one_question_more_and_costs_no_server_its_place",
            "false_proofs::two_servers_that_show_another_coinbase_are_banned_and_the_third_one_decides",
            "false_proofs::an_invented_transaction_of_64_bytes_bans_its_server_and_is_told_to_nobody",
            "false_proofs::an_inner_node_that_is_shown_as_a_transaction_is_told_to_nobody_and_the_others_serve",
            "false_proofs::two_servers_with_impossible_places_are_banned_and_the_third_proves",
            "lying_servers::a_deposit_that_is_said_to_be_in_a_block_without_proof_is_not_credited",
            "lying_servers::a_proof_of_another_place_in_the_block_is_refused_and_the_truth_found_elsewhere",
            "esplora::an_impossible_position_bans_at_the_door",
        ],
    ),
    (
        6,
        "announces a height far above, unlinked",
        "ignored until headers link; LDK is told nothing",
        &[
            "false_chains::a_height_far_above_our_headers_is_told_to_nobody",
            "scripted_chains::a_tip_far_above_with_headers_that_lead_nowhere_is_told_to_nobody_and_asked_about_less_and_less",
        ],
    ),
    (
        7,
        "reports a different header at a funding height",
        "LDK is told nothing unless our heaviest chain says so",
        &[
            "false_chains::a_servers_own_header_at_a_funding_height_closes_nothing",
            "scripted_chains::another_chain_of_the_same_height_changes_nothing_until_it_has_more_work",
        ],
    ),
    (
        8,
        "flips its tip at every call",
        "bounded work, demoted",
        &["false_chains::a_tip_that_flips_with_every_word_makes_little_work_and_demotes"],
    ),
    (
        9,
        "estimates fees absurdly high, negative, or as no number",
        "the median of the sources, a cap, a pace",
        &[
            "fees::one_server_of_three_that_claims_absurd_fees_moves_no_rate_and_at_most_doubles_the_urgent_one",
            "fees::what_the_only_server_claims_stays_within_the_limits_and_is_shown_with_where_it_comes_from",
        ],
    ),
    (
        10,
        "estimates 0, -1, or errors",
        "the histogram and the last good values, never a floor",
        &[
            "fees::of_three_servers_without_estimates_the_mempools_serve_and_the_word_of_one_is_enough",
            "fees::without_estimates_the_mempool_serves_then_the_last_good_rates_and_never_a_floor",
        ],
    ),
    (
        11,
        "shows, then hides, a transaction of the mempool",
        "nothing is credited before it is confirmed; no coin is spent twice",
        &["hidden_spends::an_unconfirmed_deposit_that_is_shown_and_taken_away_is_never_counted_as_ours"],
    ),
    (
        12,
        "says \"ok\" to a broadcast and drops it",
        "all servers get it, and again with each block",
        &[
            "hidden_spends::a_transaction_that_two_of_three_servers_take_and_drop_reaches_the_network_by_the_third",
            "hidden_spends::a_transaction_that_every_server_takes_and_drops_is_sent_again_with_the_next_block",
        ],
    ),
    (
        13,
        "answers a byte a second, or never",
        "a deadline for each request; the others go on",
        &["bad_lines::servers_that_drip_or_say_nothing_do_not_keep_the_node_from_the_third"],
    ),
    (
        14,
        "sends a line without end, a billion headers, a deep nest",
        "refused at the limit, memory flat",
        &[
            "bad_lines::what_a_line_may_hold_is_bounded_and_memory_stays_flat",
            "esplora::garbage_leaves_the_node_up_and_the_truth_is_found_afterwards",
        ],
    ),
    (
        15,
        "sends garbage in the pipeline, or ends in mid-line",
        "every waiter fails at once; it is tried again later and later",
        &["bad_lines::garbage_in_the_pipeline_and_lines_broken_off_end_that_connection_only"],
    ),
    (
        16,
        "returns another transaction's body, or one with another witness",
        "its id is computed, its witness run; it is refused",
        &[
            "forged_witnesses::a_witness_that_two_of_three_servers_forge_is_not_told_and_the_thirds_is",
            "forged_witnesses::a_close_that_comes_without_its_witness_bans_the_server_and_is_believed_of_the_next",
            "hidden_spends::another_body_from_one_of_three_servers_bans_it_and_the_true_one_is_told",
            "lying_servers::another_transaction_than_asked_for_is_refused_and_never_shown_as_a_deposit",
            "esplora::another_body_than_asked_for_is_refused_and_never_shown_as_a_deposit",
        ],
    ),
    (
        17,
        "correlates our scripts",
        "the wallet's on one server that stays, the channels' on others",
        &["duties::channel_scripts_are_told_to_three_servers_and_the_wallets_to_a_fourth_also_after_a_restart"],
    ),
    (
        18,
        "changes its certificate",
        "an alarm; not used until accepted; never clear text",
        &[
            "secure_servers::a_self_signed_server_is_pinned_at_first_use_and_another_key_is_not_used",
            "secure_servers::a_changed_key_is_an_alarm_until_a_person_accepts_exactly_that_key",
            "secure_servers::a_server_that_shall_be_secure_is_never_spoken_to_in_clear_text",
        ],
    ),
    (
        19,
        "drops the connection after each subscription",
        "longer and longer waits; what was missed is found; coverage is known",
        &[
            "hidden_spends::a_server_that_hangs_up_after_each_subscription_is_left_alone_longer_and_longer",
            "duties::status_says_how_far_behind_the_least_covered_channel_is",
        ],
    ),
    (
        20,
        "bends time",
        "the median of eleven, a limit of the future, checkpoints",
        &[
            "scripted_chains::blocks_as_early_as_the_median_allows_are_followed_and_one_at_the_median_bans_who_shows_it",
            "scripted_chains::blocks_of_the_future_wait_and_those_before_them_are_followed",
            "false_chains::headers_from_the_future_are_not_followed",
        ],
    ),
    (
        21,
        "reorganises by lying, then honestly",
        "only work counts",
        &[
            "false_chains::after_a_false_reorganisation_a_true_one_is_told",
            "scripted_chains::two_servers_with_less_work_do_not_move_the_third_however_deep_and_with_more_they_do",
            "scripted_chains::a_reorganisation_that_leaves_a_transaction_at_its_height_is_told_with_the_new_block",
            "scripted_chains::a_fork_deeper_than_any_reorganisation_is_not_followed_whatever_its_length_and_costs_little",
        ],
    ),
    (
        22,
        "lies in a snapshot of the network",
        "a limit of size and age, and of the fee of each payment",
        &[
            "lying_maps::a_snapshot_that_is_no_honest_one_is_refused_with_the_reason_and_memory_stays_flat",
            "lying_maps::fees_that_a_snapshot_makes_absurd_are_never_paid_and_those_it_makes_too_small_cost_nothing",
        ],
    ),
    (
        23,
        "writes HTML, or signs for a terminal, into its words",
        "our own words instead; escaped in the log; never in the output",
        &["bad_lines::signs_for_a_terminal_in_the_words_of_servers_reach_no_terminal_and_no_log"],
    ),
];

#[test]
fn every_row_has_tests_and_every_test_that_is_named_is_one() {
    let contents = read("spec");
    let mut missing = Vec::new();
    for (at, (number, _, _, tests)) in ROWS.iter().enumerate() {
        assert_eq!(usize::from(*number), at + 1);
        assert!(!tests.is_empty(), "row {number} has no test");
        for test in *tests {
            let (file, function) = test.split_once("::").expect("a file and a function");
            let listed = contents.contains(&format!("\nmod {file};"));
            let text = read(file);
            let lines: Vec<&str> = text.lines().collect();
            let begins = format!("fn {function}(");
            let named = |line: &str| line.strip_prefix("pub(crate) ").unwrap_or(line).starts_with(&begins);
            let is_test = lines.windows(2).any(|two| two[0] == "#[test]" && named(two[1]));
            if !listed || !is_test {
                missing.push(format!("row {number}: {test}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file).with_extension("rs");
    fs::read_to_string(&path).unwrap_or_default()
}
