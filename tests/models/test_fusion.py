"""Every fusion answers jointly and per modality, and says which parameters serve one modality alone."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.models.fusion import Concat, Fusion, Sum
from balance_tune.models.fusion_film import Film
from balance_tune.models.fusion_gated import Gated
from balance_tune.models.fusion_late import Late
from balance_tune.models.fusion_mlp import Mlp
from balance_tune.models.fusion_transformer import Transformer
from balance_tune.models.multimodal import ModelSpec
from balance_tune.registry import fusions

CLASSES, BATCH = 3, 7
WIDTHS = {"audio": 6, "image": 5, "motion": 4, "text": 8}
NEED_TWO = {"film", "gated"}


def made(name: str, modalities: int, **settings: int) -> Fusion:
    torch.manual_seed(0)
    widths = dict(list(WIDTHS.items())[:modalities])
    fusion: Fusion = fusions().get(name)(widths, CLASSES, **settings)
    return fusion.double()


def features_of(fusion: Fusion, rows: int = BATCH) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(rows, d, generator=generator, dtype=torch.float64) for m, d in fusion.widths.items()}


def silenced(features: dict[str, Tensor], *absent: str) -> dict[str, Tensor]:
    return {m: torch.zeros_like(h) if m in absent else h for m, h in features.items()}


EVERY = pytest.mark.parametrize(
    ("name", "modalities"),
    [(n, k) for n in fusions().names() for k in (1, 2, 3, 4) if not (k == 1 and n in NEED_TWO)],
)


def test_all_seven_are_there() -> None:
    assert fusions().names() == ["concat", "film", "gated", "late", "mlp", "sum", "transformer"]


@EVERY
def test_answers_have_one_row_per_sample_and_one_column_per_class(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    features = features_of(fusion)
    assert fusion(features).shape == (BATCH, CLASSES)
    alone = fusion.unimodal_logits(features)
    assert list(alone) == list(fusion.widths)
    assert all(f.shape == (BATCH, CLASSES) for f in alone.values())


@EVERY
def test_the_answers_by_class_are_the_same_answers(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    features = features_of(fusion)
    by_class = fusion.unimodal_logits_by_class(features)
    expected = torch.stack(list(fusion.unimodal_logits(features).values())).transpose(1, 2)
    torch.testing.assert_close(by_class, expected)


def test_concat_answers_by_class_for_equal_widths_too_and_as_a_subclass_wants_it() -> None:
    class Doubled(Concat):
        name = ""

        def unimodal_logits(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {m: 2 * f for m, f in super().unimodal_logits(features).items()}

    for widths in (dict.fromkeys("ab", 4), dict.fromkeys("abc", 4), dict.fromkeys("a", 4)):
        for cls in (Concat, Doubled):
            fusion = cls(widths, CLASSES).double()
            features = features_of(fusion)
            expected = torch.stack(list(fusion.unimodal_logits(features).values())).transpose(1, 2)
            torch.testing.assert_close(fusion.unimodal_logits_by_class(features), expected)


@EVERY
def test_a_sample_is_answered_whoever_is_beside_it(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    features = features_of(fusion)
    torch.testing.assert_close(fusion({m: h[2:3] for m, h in features.items()}), fusion(features)[2:3])


@EVERY
def test_training_and_evaluation_mode_answer_alike(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    features = features_of(fusion)
    answer = fusion.train()(features)
    with torch.inference_mode():
        torch.testing.assert_close(fusion.eval()(features), answer)


@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_a_transformer_answers_as_one_without_the_missing_modalities(modalities: int) -> None:
    """Samples of one batch lack different ones; what is missing may be anything before it is masked."""
    fusion = made("transformer", modalities)
    features, names = features_of(fusion), list(fusion.widths)
    lacks = {m: torch.arange(BATCH) % (modalities + 1) == i for i, m in enumerate(names)}
    answer = fusion({m: h.masked_fill(lacks[m][:, None], 0.0) for m, h in features.items()})
    for i in range(BATCH):
        has = [m for m in names if not lacks[m][i]]
        smaller = Transformer({m: fusion.widths[m] for m in has}, CLASSES).double()
        kept = {n: p for n, p in fusion.state_dict().items() if not n.startswith("tokens.") or n.split(".")[1] in has}
        smaller.load_state_dict(kept)
        torch.testing.assert_close(answer[i : i + 1], smaller({m: features[m][i : i + 1] for m in has}))
    nothing = fusion(silenced(features, *names))
    assert bool(nothing.isfinite().all())
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))


@EVERY
def test_no_rows_have_no_answers(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    answer = fusion({m: h.requires_grad_() for m, h in features_of(fusion, rows=0).items()})
    assert answer.shape == (0, CLASSES)
    answer.sum().backward()


def test_a_masked_modality_of_a_sample_gets_no_gradient_from_it() -> None:
    fusion = made("transformer", 2)
    features = features_of(fusion)
    features["audio"][2] = 0.0
    features = {m: h.requires_grad_() for m, h in features.items()}
    fusion(features).square().sum().backward()
    assert not features["audio"].grad[2].any()
    assert features["audio"].grad[3].any()
    assert features["image"].grad[2].any()


@EVERY
def test_every_parameter_and_every_modality_has_a_share_in_the_loss(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    features = {m: h.requires_grad_() for m, h in features_of(fusion).items()}
    F.cross_entropy(fusion(features), torch.arange(BATCH) % CLASSES).backward()
    for parameter, tensor in [*fusion.named_parameters(), *features.items()]:
        assert tensor.grad is not None, parameter
        assert tensor.grad.any(), parameter


@EVERY
def test_slices_hear_their_own_modality_alone(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    slices = fusion.slices()
    assert list(slices) == list(fusion.widths)
    for silent in fusion.widths:
        fusion.zero_grad()
        F.cross_entropy(fusion(silenced(features_of(fusion), silent)), torch.arange(BATCH) % CLASSES).backward()
        # a bias of a projection belongs to its modality too, and is trained whatever the modality says
        weights = {m: [(p.grad, c) for p, c in own if p.dim() == 2 and p.grad is not None] for m, own in slices.items()}
        assert all(not grad[:, columns].any() for grad, columns in weights[silent])
        others = [grad[:, columns] for m in fusion.widths if m != silent for grad, columns in weights[m]]
        assert all(g.any() for g in others)


@EVERY
def test_a_gradient_can_be_differentiated_again(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    loss = F.cross_entropy(fusion(features_of(fusion)), torch.arange(BATCH) % CLASSES)
    first = torch.autograd.grad(loss, list(fusion.parameters()), create_graph=True)
    sum(g.square().sum() for g in first).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())


@pytest.mark.parametrize("name", ["film", "gated", "mlp", "transformer"])
@pytest.mark.parametrize("modalities", [2, 3, 4])
def test_without_an_exact_answer_the_other_modalities_are_silenced(name: str, modalities: int) -> None:
    fusion = made(name, modalities)
    features = features_of(fusion)
    for m, f in fusion.unimodal_logits(features).items():
        torch.testing.assert_close(f, fusion(silenced(features, *(o for o in features if o != m))))


@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
def test_unimodal_answers_of_concat_and_sum_add_up_to_the_joint_one(modalities: int) -> None:
    for name in ("concat", "sum"):
        fusion = made(name, modalities)
        features = features_of(fusion)
        torch.testing.assert_close(sum(fusion.unimodal_logits(features).values()), fusion(features))


@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
def test_the_answer_of_late_fusion_is_the_mean_of_the_unimodal_ones(modalities: int) -> None:
    fusion = made("late", modalities)
    features = features_of(fusion)
    alone = fusion.unimodal_logits(features)
    torch.testing.assert_close(fusion(features), sum(alone.values()) / modalities)
    for m, h in features.items():
        head = fusion.get_submodule(f"heads.{m}")
        torch.testing.assert_close(alone[m], h @ head.weight.T + head.bias)


def test_unimodal_answers_of_concat_take_their_own_columns_and_a_share_of_the_bias() -> None:
    fusion = made("concat", 3)
    assert isinstance(fusion, Concat)
    features = features_of(fusion)
    weight, bias = fusion.head.weight, fusion.head.bias
    torch.testing.assert_close(
        fusion.unimodal_logits(features)["image"], features["image"] @ weight[:, 6:11].T + bias / 3
    )


def test_film_scales_and_shifts_the_last_modality() -> None:
    fusion = made("film", 3)
    assert isinstance(fusion, Film)
    features = features_of(fusion)
    for i in range(BATCH):
        condition = torch.cat([features["audio"][i], features["image"][i]])
        gamma_beta = fusion.condition.weight @ condition + fusion.condition.bias
        moved = gamma_beta[:4] * features["motion"][i] + gamma_beta[4:]
        torch.testing.assert_close(fusion(features)[i], fusion.head.weight @ moved + fusion.head.bias)


def test_gated_opens_and_closes_what_the_others_say_by_the_first_modality() -> None:
    fusion = made("gated", 3)
    assert isinstance(fusion, Gated)
    features = features_of(fusion)
    for i in range(BATCH):
        projected = {m: p.weight @ features[m][i] + p.bias for m, p in fusion.projections.items()}
        gate = 1 / (1 + (-projected["audio"]).exp())
        expected = fusion.head.weight @ (gate * (projected["image"] + projected["motion"])) + fusion.head.bias
        torch.testing.assert_close(fusion(features)[i], expected)


def test_gated_is_as_wide_as_its_widest_modality_unless_told() -> None:
    for settings, width in (({}, 6), ({"hidden": 9}, 9)):
        fusion = made("gated", 3, **settings)
        assert isinstance(fusion, Gated)
        assert fusion.head.in_features == width


def test_mlp_has_one_hidden_layer() -> None:
    fusion = made("mlp", 2, hidden=10)
    assert isinstance(fusion, Mlp)
    features = features_of(fusion)
    x = torch.cat([features["audio"], features["image"]], dim=1)
    hidden = (x @ fusion.mix.weight.T + fusion.mix.bias).clamp_min(0)
    torch.testing.assert_close(fusion(features), hidden @ fusion.head.weight.T + fusion.head.bias)


def test_modalities_meet_in_the_bottleneck_alone() -> None:
    fusion = made("transformer", 3, bottlenecks=2)
    assert isinstance(fusion, Transformer)
    tokens = torch.randn(1, 5, 32, dtype=torch.float64)  # two of the bottleneck, then audio, image, motion
    louder = tokens.clone()
    louder[:, 2] += 1  # audio
    before, after = (fusion.layers[0](x, src_mask=fusion.blocked) for x in (tokens, louder))
    changed = (before != after).any(dim=2).squeeze(0).tolist()
    assert changed == [True, True, True, False, False]


def test_a_token_is_about_features_of_size_one_whatever_their_own() -> None:
    fusion = made("transformer", 2)
    features = features_of(fusion)
    loud = {m: 100 * h for m, h in features.items()}
    torch.testing.assert_close(fusion(loud), fusion({m: 1000 * h for m, h in features.items()}), rtol=1e-4, atol=1e-4)


def test_the_mask_of_the_transformer_is_no_part_of_a_checkpoint() -> None:
    assert "blocked" not in made("transformer", 2).state_dict()


@pytest.mark.parametrize("name", sorted(NEED_TWO))
def test_a_fusion_that_needs_two_modalities_says_so(name: str) -> None:
    with pytest.raises(UserError, match=f"fusion {name} needs at least 2 modalities, but got \\['audio'\\]"):
        made(name, 1)


@pytest.mark.parametrize("name", ["film", "gated", "late", "mlp", "transformer"])
def test_a_fusion_of_nothing_is_an_error(name: str) -> None:
    with pytest.raises(UserError, match="needs at least"):
        made(name, 0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mlp", {"hidden": 0}, "`hidden >= 1` .* fusion mlp, but got 0"),
        ("gated", {"hidden": -1}, "`hidden >= 1` .* fusion gated, but got -1"),
        ("transformer", {"bottlenecks": 0}, "`bottlenecks >= 1` .* fusion transformer, but got 0"),
        ("transformer", {"width": 30, "heads": 4}, "`width % heads == 0` must hold"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(name: str, settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(name, 2, **settings)


def test_an_unknown_setting_is_a_users_mistake_told_in_one_line() -> None:
    spec = ModelSpec({"audio": ((4,), "mlp", {})}, CLASSES, "mlp", {"hiden": 3})
    with pytest.raises(UserError, match=r"fusion mlp must accept its settings \{'hiden': 3\}") as caught:
        spec.build(seed=0)
    assert "\n" not in str(caught.value)


def test_sum_gives_every_modality_its_own_bias() -> None:
    fusion = made("sum", 2)
    assert isinstance(fusion, Sum)
    alone = fusion.unimodal_logits({m: torch.zeros_like(h) for m, h in features_of(fusion).items()})
    for m, f in alone.items():
        torch.testing.assert_close(f[0], fusion.get_parameter(f"heads.{m}.bias"))


def test_late_is_a_fusion_of_its_own() -> None:
    assert not issubclass(Late, Sum)
