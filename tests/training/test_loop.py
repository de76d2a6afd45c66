"""What the loop does at each step and at the end of each epoch."""

import math

import pytest
import torch

from tests.training.conftest import MakeConfig, assert_same_weights, prescribe_scores, train
from timellm_cli.config import Config
from timellm_cli.data.batch import Batch
from timellm_cli.data.ridge import fit_linear
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.errors import ModelError
from timellm_cli.evaluation.score import Scores, score
from timellm_cli.model.load import load_model
from timellm_cli.training.checkpoint import load_checkpoint
from timellm_cli.training.optimizer import Schedule
from timellm_cli.training.records import (
    BestSoFar,
    EpochFinished,
    MemoryMeasured,
    NoImprovement,
    RunFinished,
    RunStarted,
    ScoringStarted,
    StepFinished,
    StepLogged,
)
from timellm_cli.training.step import TrainingStep


def test_the_run_announces_its_length_and_takes_exactly_so_many_steps(make_config: MakeConfig) -> None:
    run = train(make_config())
    assert run.records[0] == RunStarted(step=0, epoch=0, epochs=3, steps_per_epoch=11, total_steps=33)
    assert [(step.epoch, step.step_in_epoch) for step in run.of(StepFinished)] == [
        (epoch, step) for epoch in (1, 2, 3) for step in range(1, 12)
    ]
    assert run.of(RunFinished)[0].reason == "all 3 epochs are done"


def test_log_records_hold_the_mean_loss_since_the_last_one(make_config: MakeConfig) -> None:
    run = train(make_config(train__epochs=1))
    losses = [record.loss for record in run.of(StepFinished)]
    logged = {record.step: record.loss for record in run.of(StepLogged)}
    assert logged == {
        4: pytest.approx(sum(losses[:4]) / 4),
        8: pytest.approx(sum(losses[4:8]) / 4),
        11: pytest.approx(sum(losses[8:]) / 3),
    }
    assert run.of(EpochFinished)[0].train_loss == pytest.approx(sum(losses) / 11)


def test_accumulated_steps_change_the_weights_as_one_large_batch_does(make_config: MakeConfig) -> None:
    # 92 samples: 46 batches of 2, in groups of 4 with 2 left over; or 11 batches of 8. Equal for the first 11 updates.
    small = make_config(train__batch_size=2, train__accumulate=4, train__max_steps=44, model__dropout=0.0)
    large = make_config(train__batch_size=8, train__accumulate=1, train__max_steps=11, model__dropout=0.0)
    accumulated, whole = train(small, "small").weights, train(large, "large").weights
    for name, weight in whole.items():
        if name != "reprogramming.key.bias":  # its gradient is zero but for rounding, which Adam blows up
            torch.testing.assert_close(accumulated[name], weight, rtol=1e-3, atol=1e-4)


def test_every_update_is_made_once_and_the_left_over_steps_make_one(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = []
    change = TrainingStep.update_weights

    def record_update(stepper: TrainingStep, update: int) -> None:
        updates.append(update)
        change(stepper, update)

    monkeypatch.setattr(TrainingStep, "update_weights", record_update)
    train(make_config(train__epochs=2))
    assert updates == list(range(8))  # 11 steps in threes: 3 + 1 updates an epoch


def test_the_left_over_steps_are_averaged_over_their_own_number(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    launch = TrainingStep.start

    def record_share(stepper: TrainingStep, batch: object, update: int, share: float, **named: bool) -> object:
        shares.append(share)
        return launch(stepper, batch, update, share, **named)

    monkeypatch.setattr(TrainingStep, "start", record_share)
    train(make_config(train__epochs=1))
    assert shares == [1 / 3] * 9 + [1 / 2] * 2


def test_clipping_bounds_what_a_step_can_change(make_config: MakeConfig) -> None:
    free = train(make_config(train__max_steps=3, train__schedule="constant"), "free")
    clipped = train(make_config(train__max_steps=3, train__schedule="constant", train__clip=1e-12), "clipped")
    start = train(make_config(train__max_steps=3, train__schedule="constant", train__learning_rate=1e-30), "start")

    def distance(weights: dict[str, torch.Tensor]) -> float:
        return math.sqrt(sum(float((weights[name] - start.weights[name]).square().sum()) for name in weights))

    # A gradient far below Adam's epsilon of 1e-8 moves next to nothing.
    assert distance(clipped.weights) < 1e-3 * distance(free.weights)


def test_max_steps_ends_inside_an_epoch_and_scores_what_was_learned(make_config: MakeConfig) -> None:
    run = train(make_config(train__max_steps=15))
    assert [record.step for record in run.of(EpochFinished)] == [11, 15]
    ending = run.of(RunFinished)[0]
    assert (ending.step, ending.epochs, ending.reason) == (15, 2, "15 steps are done, as train.max_steps says")


def test_a_constant_schedule_lets_a_finished_run_go_on_as_if_it_had_been_longer(make_config: MakeConfig) -> None:
    changes = {"train__schedule": "constant", "train__accumulate": 1}
    short = train(make_config(train__max_steps=15, **changes), "run")
    longer = train(make_config(train__max_steps=20, **changes), "run", resume=short.directory.last)
    at_once = train(make_config(train__max_steps=20, **changes), "at-once")
    assert_same_weights(longer.weights, at_once.weights)
    assert longer.of(StepFinished)[0].step == 16


def test_a_finished_run_has_nothing_left_to_do(make_config: MakeConfig) -> None:
    run = train(make_config(train__epochs=1))
    again = train(make_config(train__epochs=1), resume=run.directory.last)
    assert [type(record) for record in again.records] == [RunFinished]
    assert again.of(RunFinished)[0].best == run.of(RunFinished)[0].best


def test_the_memory_of_steps_is_recorded_once_before_the_first_scoring(make_config: MakeConfig) -> None:
    run = train(make_config())
    (measured,) = run.of(MemoryMeasured)
    kinds = [type(record) for record in run.records]
    assert kinds.index(MemoryMeasured) < kinds.index(ScoringStarted)
    assert (measured.step, measured.device, measured.reserved) == (11, "CPU", measured.allocated)
    assert 100e6 < measured.allocated < 20e9
    assert 0.3 < measured.predicted / measured.allocated < 3
    assert measured.predicted == sum(measured.parts.values())
    assert run.of(RunFinished)[0].memory == measured


def test_training_stops_after_so_many_epochs_without_a_lower_loss(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    prescribe_scores(monkeypatch, [3.0, 1.0, 2.0, 1.0, 0.5])
    run = train(make_config(train__epochs=5, train__patience=2))
    assert run.of(BestSoFar) == [BestSoFar(1, math.inf, 3.0), BestSoFar(2, 3.0, 1.0)]
    assert run.of(NoImprovement) == [NoImprovement(1, 2, 1.0), NoImprovement(2, 2, 1.0)]
    ending = run.of(RunFinished)[0]
    assert ending.reason == "early stopping: no lower validation loss for 2 epochs"
    assert (ending.best["epoch"], ending.best["val_mse"], ending.best["test_mae"]) == (2, 1.0, 50.0)


def test_without_patience_every_epoch_is_trained(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    prescribe_scores(monkeypatch, [1.0, 2.0, 2.0, 2.0, 2.0])
    assert len(train(make_config(train__epochs=5, train__patience=0)).of(EpochFinished)) == 5


def test_patience_counts_on_after_a_resume(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    prescribe_scores(monkeypatch, [1.0, 2.0, 2.0, 2.0, 2.0])
    config = make_config(train__epochs=5, train__patience=3)
    stopped = train(config, stop_at=30)  # in the third epoch, after one epoch without a lower loss
    resumed = train(config, resume=stopped.directory.last)
    assert [record.epoch for record in resumed.of(EpochFinished)] == [3, 4]


def test_best_holds_the_best_epoch_and_last_the_newest(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    prescribe_scores(monkeypatch, [3.0, 1.0, 2.0])
    run = train(make_config())
    best, last = load_checkpoint(run.directory.best), load_checkpoint(run.directory.last)
    assert best.training is None
    assert best.metrics["epoch"] == 2
    prescribe_scores(monkeypatch, [3.0, 1.0])
    second_epoch = train(make_config(), "second", stop_at=22)
    assert_same_weights(best.weights, second_epoch.weights)
    assert_same_weights(last.weights, run.weights)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_the_loss_that_is_minimised_also_selects(make_config: MakeConfig, loss: str) -> None:
    config = make_config(train__loss=loss, train__max_steps=1)
    run = train(config)
    record, data = run.of(EpochFinished)[0], load_data(config)
    for split, loss_of_split in (("val", record.val_loss), ("test", record.test_loss)):
        scores = score(run.runner, data, split, 8)
        assert loss_of_split == scores.loss(loss)
    assert len({scores.loss(kind) for kind in ("mse", "mae", "huber")}) == 3


def test_the_average_is_scored_and_kept_and_the_weights_learn_as_without_it(make_config: MakeConfig) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    change = TrainingStep.update_weights

    def record_weights(stepper: TrainingStep, update: int) -> None:
        change(stepper, update)
        seen.append({name: weight.detach().clone() for name, weight in stepper.weights.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStep, "update_weights", record_weights)
        plain, averaged = (train(make_config(train__average=average), str(average)) for average in (False, True))
    updates = len(seen) // 2
    assert_same_weights(averaged.weights, plain.weights)
    mean = seen[updates]
    for number, weights in enumerate(seen[updates + 1 :], 2):
        mean = {name: value + 10 / (number + 9) * (weights[name] - value) for name, value in mean.items()}
    kept = load_checkpoint(averaged.directory.last)
    for name, weight in kept.weights.items():
        torch.testing.assert_close(weight, mean[name], rtol=1e-4, atol=1e-5)
    assert kept.training is not None
    assert_same_weights(kept.training.step["learning"], averaged.weights)
    averaged.runner.model.load_own_state(kept.weights)
    data = load_data(make_config())
    scores = score(averaged.runner, data, "test", 8)
    assert averaged.of(EpochFinished)[-1].test_mse == pytest.approx(scores.mse, rel=1e-6)
    assert plain.of(EpochFinished)[-1].test_mse != pytest.approx(scores.mse, rel=1e-3)


def test_in_window_units_every_error_counts_alike_and_is_reported_in_standardised_units(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []

    def record_gradient(stepper: TrainingStep, update: int) -> None:
        gradients.append(8 * 12 * stepper.weights["head.projection.bias"].grad.clone())

    monkeypatch.setattr(TrainingStep, "update_weights", record_gradient)
    losses = []
    for units in ("standardised", "window"):
        settings = {"train__loss": "mae", "train__loss_units": units, "model__dropout": 0.0}
        run = train(make_config(train__max_steps=1, train__accumulate=1, **settings), units)
        losses.append(run.of(StepFinished)[0].loss)
    assert losses[0] == losses[1]
    # The bias is in window units: its gradient is the mean sign of 8 x 12 errors, or that of signs times deviations.
    standardised, window = gradients
    torch.testing.assert_close(window, window.round(), rtol=0, atol=1e-4)
    assert (standardised - standardised.round()).abs().max() > 0.01


def test_a_history_that_hardly_moves_does_not_outweigh_the_others_in_window_units(make_config: MakeConfig) -> None:
    settings = {"train__loss": "mae", "train__loss_units": "window", "model__dropout": 0.0, "llm__name": "none"}
    config = make_config(**settings)
    runner = load_model(config, torch.device("cpu"))
    step = TrainingStep(config.train, Schedule("constant", 0.01, 10, 10), runner)
    torch.manual_seed(0)
    flat = Batch(torch.zeros(8, 48), torch.randn(8, 12), torch.zeros(8), torch.zeros(8))
    step.start(runner.encode(flat), 0, share=1.0, step=1, completes=False)
    # A flat history has a deviation of EPSILON ** 0.5, and counts as if it were 0.1.
    signs = 8 * 12 * step.weights["head.projection.bias"].grad / (1e-5**0.5 / 0.1)
    torch.testing.assert_close(signs, signs.round(), rtol=0, atol=1e-3)
    assert signs.abs().max() > 0.5


def test_the_scores_of_an_epoch_are_those_of_the_one_code_path(make_config: MakeConfig) -> None:
    config = make_config(train__max_steps=5)
    run = train(config)
    scores = score(run.runner, load_data(config), "test", 8)
    record = run.of(EpochFinished)[0]
    assert (record.test_mse, record.test_mae) == (scores.mse, scores.mae)


def test_scoring_has_a_batch_of_its_own(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []

    def record_batch(forecaster: object, data: ForecastData, split: str, batch_size: int, **named: object) -> Scores:
        batches.append(batch_size)
        return score(forecaster, data, split, batch_size, **named)

    monkeypatch.setattr("timellm_cli.training.loop.score", record_batch)
    train(make_config(train__max_steps=1))
    assert batches == [32, 32], "and not the 8 of a step"


def test_the_saved_steps_are_multiples_and_only_the_newest_stay(make_config: MakeConfig) -> None:
    run = train(make_config(run__save_steps=5, run__save_total_limit=2))
    assert [number for number, _ in run.directory.step_checkpoints()] == [25, 30]
    assert load_checkpoint(run.directory.step(25)).training.run.step == 25


def test_a_loss_that_is_no_number_names_step_rows_and_the_last_good_checkpoint(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_bad(config: Config):
        data = load_data(config)
        data.values_KV[0, 0] = math.inf  # the first column is `load`; one sample holds its first row
        return data

    monkeypatch.setattr("tests.training.conftest.load_data", make_bad)
    config = make_config(run__save_steps=1, train__accumulate=1)
    with pytest.raises(
        ModelError, match=r"the loss became nan at step \d+ .*; samples: 'load' rows 1 to 60$"
    ) as caught:
        train(config)
    last = load_checkpoint(config.run.directory / "run" / "last.pt")
    assert f"at step {last.training.run.step + 1} " in caught.value.message
    assert str(config.run.directory / "run" / "last.pt") in caught.value.hint
    assert all(weight.isfinite().all() for weight in last.weights.values())


def test_weights_that_are_no_numbers_are_not_saved(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingStep, "weights_are_finite", lambda stepper: False)
    with pytest.raises(ModelError, match="a weight is no longer a finite number"):
        train(make_config(run__save_steps=2))


@pytest.mark.parametrize("features", ["S", "MS"])
def test_the_target_alone_is_scored_where_it_alone_is_asked_for(make_config: MakeConfig, features: str) -> None:
    run = train(make_config(data__features=features, train__max_steps=2))
    assert run.of(RunStarted)[0].steps_per_epoch == (5 if features == "S" else 11)
    assert load_checkpoint(run.directory.best).columns == (("OT",) if features == "S" else ("load", "OT"))


def test_the_model_without_an_llm_trains_the_same_way(make_config: MakeConfig) -> None:
    run = train(make_config(llm__name="none", train__accumulate=1))
    epochs = run.of(EpochFinished)
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert load_checkpoint(run.directory.best).llm_fingerprint == "none"


def test_a_requested_stop_ends_the_run_after_the_step_in_which_it_came(make_config: MakeConfig) -> None:
    """On a CPU a step can take minutes: no further one is begun."""
    run = train(make_config(), stop_at=5)
    assert [record.step for record in run.of(StepFinished)] == [1, 2, 3, 4, 5]
    assert load_checkpoint(run.directory.last).training.run.step == 5


FITTED = {"model__shortcut": "fitted"}


def test_a_fitted_model_is_scored_before_its_first_step_as_the_linear_map_it_is(make_config: MakeConfig) -> None:
    config = make_config(train__average=True, **FITTED)
    run = train(config)
    epochs = run.of(EpochFinished)
    assert [(epoch.epoch, epoch.step, epoch.train_loss is None) for epoch in epochs] == [
        (0, 0, True), (1, 11, False), (2, 22, False), (3, 33, False),
    ]  # fmt: skip
    kinds = [type(record) for record in run.records]
    assert kinds.index(EpochFinished) < kinds.index(StepFinished)
    data = load_data(config)
    linear = score(fit_linear(data), data, "test", 64)
    assert (epochs[0].test_mse, epochs[0].test_mae) == pytest.approx((linear.mse, linear.mae), rel=3e-4)


def test_what_is_not_fitted_has_no_epoch_0(make_config: MakeConfig) -> None:
    run = train(make_config(model__shortcut="linear", train__epochs=1))
    assert [epoch.epoch for epoch in run.of(EpochFinished)] == [1]


def test_training_that_adds_nothing_keeps_the_linear_map(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    prescribe_scores(monkeypatch, [1.0, 2.0, 1.0, 1.5])
    config = make_config(train__patience=2, **FITTED)
    run = train(config)
    assert run.of(BestSoFar) == [BestSoFar(0, math.inf, 1.0)]
    ending = run.of(RunFinished)[0]
    assert (ending.reason, ending.epochs) == ("early stopping: no lower validation loss for 2 epochs", 2)
    assert (ending.best["epoch"], ending.best["val_mse"]) == (0, 1.0)
    best, last = load_checkpoint(run.directory.best), load_checkpoint(run.directory.last)
    assert (best.epoch, last.epoch) == (0, 2)
    assert not best.weights["head.projection.weight"].any()
    assert not best.weights["shortcut.weight_HT"].any()
    fitted = load_model(config, torch.device("cpu")).model
    fitted.start_from(fit_linear(load_data(config)).weights_TH)
    assert torch.equal(best.weights["shortcut.fitted_HT"], fitted.own_state()["shortcut.fitted_HT"])
    assert torch.equal(last.weights["shortcut.fitted_HT"], best.weights["shortcut.fitted_HT"])


@pytest.mark.parametrize("average", [False, True])
def test_a_fitted_run_that_stopped_anywhere_ends_as_if_it_had_not(make_config: MakeConfig, average: bool) -> None:
    config = make_config(train__average=average, **FITTED)
    whole = train(config, "whole")
    in_epoch_0 = train(config, "first", stop_in_scoring=True)
    assert not in_epoch_0.of(EpochFinished)
    at_once = train(config, "first", resume=in_epoch_0.directory.last)
    assert [epoch.epoch for epoch in at_once.of(EpochFinished)] == [0, 1, 2, 3]
    after_it = train(config, "second", stop_at=1)
    assert [epoch.epoch for epoch in after_it.of(EpochFinished)] == [0]
    later = train(config, "second", resume=after_it.directory.last)
    assert [epoch.epoch for epoch in later.of(EpochFinished)] == [1, 2, 3]
    for run in (at_once, later):
        for file in ("best", "last"):
            ours, theirs = (load_checkpoint(getattr(one.directory, file)).weights for one in (run, whole))
            assert_same_weights(ours, theirs)
