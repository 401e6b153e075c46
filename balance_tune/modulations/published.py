"""What papers report for the methods, with the protocol behind each number; not comparable across sources.

`selection` says on which rows the best epoch was chosen, by the published code where there is any: "test", "val", or
"?" where it is not stated. Every number is an accuracy in % on the test rows.
"""

from __future__ import annotations

from dataclasses import dataclass

_BENCHMARK = "BalanceBenchmark (arXiv 2502.10816), table of its README, read from an image"
_SETTING = "one code base for all; ResNet-18, 30 epochs"
_OPM = "Wei et al., TPAMI 2024"
_MSAM = "M-SAM paper (arXiv 2510.24919)"
_MCR = "MCR paper (arXiv 2411.07335)"
_DR = "Diagnosing & Re-learning paper, ECCV 2024"
_OLM = "OLM paper, IJCAI 2024"
_REMIX = "Data Remixing paper, ICML 2025"
_INFO = "InfoReg paper, CVPR 2025"
_NOTES = "re-run by others (public notes of the ASGML study), 5 seeds"


@dataclass(frozen=True)
class Published:
    """One number: `value` (mean, and the spread where one is given) of a method on a dataset, and where it is from."""

    method: str
    dataset: str
    value: str
    selection: str
    setting: str
    source: str


def _rows() -> list[Published]:
    rows = [Published(*entry) for entry in _ENTRIES]
    for line in _TABLE.strip().splitlines():
        method, *values = line.split()
        for dataset, value in zip(_DATASETS, values, strict=True):
            if value != "-":
                rows.append(Published(method, dataset, value, "test", _SETTING, _BENCHMARK))
    return rows


def published(method: str | None = None, dataset: str | None = None) -> list[Published]:
    """Return the numbers of a method, or on a dataset (by its name in a study), or all."""
    rows = [r for r in _rows() if method in (None, r.method) and dataset in (None, r.dataset)]
    return sorted(rows, key=lambda r: (r.method, r.dataset))


_DATASETS = ("kinetics_sounds", "crema_d", "ucf101", "food101", "mosei", "vggsound")
_TABLE = """
joint 65.63 65.50 81.80 91.65 78.99 48.08
mmcosine 67.49 67.19 82.97 92.16 80.38 48.73
umt 68.60 67.47 84.18 93.02 80.73 51.58
mbsd 68.82 74.86 84.61 93.16 79.41 49.48
cml 67.56 69.18 84.74 92.70 79.69 50.50
g_blending 68.82 71.59 85.01 92.56 79.64 51.41
mmpareto 74.55 79.97 85.30 92.82 81.18 49.35
lfm 66.37 70.02 84.95 92.58 79.90 47.45
ogm 67.04 67.76 82.07 91.81 80.45 48.25
agm 66.62 71.59 81.70 91.89 79.86 49.06
pmr 67.11 67.19 81.93 92.10 79.88 50.38
relearning 65.92 71.02 82.87 91.68 78.65 48.12
reconboost 68.38 74.01 82.89 92.47 81.01 47.27
mla 69.05 72.30 85.38 93.14 78.65 49.99
opm 66.89 68.75 85.28 93.08 79.95 49.12
greedy 66.82 66.48 - - - 48.65
amco 70.54 73.30 86.91 92.73 79.51 47.18
modality_valuation 68.01 75.85 85.25 92.20 79.84 48.25
"""
_ENTRIES = [
    ("joint", "crema_d", "62.6 +- 5.8", "val", "ResNet-18, three speaker-independent folds", _MCR),
    ("joint", "crema_d", "61.19", "?", "ResNet-18, late fusion, 100 epochs", _MSAM),
    ("joint", "crema_d", "66.61", "test", "ResNet-18, 3 frames, 50 epochs", _INFO),
    ("joint", "crema_d", "58.83", "test", "ResNet-18, 100 epochs", "ARL paper, ICCV 2025"),
    ("joint", "crema_d", "65.1", "test", "ResNet-18, 1 frame, 100 epochs", "DGL paper, ICCV 2025"),
    ("joint", "crema_d", "61.59", "?", "ResNet-18 from ImageNet", _NOTES),
    ("sam", "crema_d", "66.32", "?", "ResNet-18, late fusion, 100 epochs; no error bars", _MSAM),
    ("sam", "ave", "77.66", "?", "ResNet-18, late fusion, 100 epochs; no error bars", _MSAM),
    ("m_sam", "crema_d", "68.56", "?", "ResNet-18, late fusion, 100 epochs; no error bars", _MSAM),
    ("m_sam", "ave", "79.67", "?", "ResNet-18, late fusion, 100 epochs; no error bars", _MSAM),
    (
        "inforeg",
        "crema_d",
        "75.71",
        "test",
        "ResNet-18, 3 frames, with losses of single modalities; 71.90 without",
        _INFO,
    ),
    (
        "inforeg",
        "kinetics_sounds",
        "72.03",
        "test",
        "ResNet-18, with losses of single modalities; 69.31 without",
        _INFO,
    ),
    ("inforeg", "crema_d", "67.72 +- 0.83", "?", "ResNet-18 from ImageNet", _NOTES),
    ("mcr", "crema_d", "76.1 +- 1.6", "val", "ResNet-18, pretrained encoders; Conformer 85.7 +- 0.2", _MCR),
    ("mcr", "ave", "73.4", "val", "ResNet-18, pretrained encoders; Conformer 88.8 +- 1.0", _MCR),
    ("mcr", "ucf101", "55.2 +- 1.8", "val", "the 51 classes with sound", _MCR),
    ("ensemble", "crema_d", "71.7", "val", "ResNet-18; Conformer 84.6", _MCR),
    ("ensemble", "ave", "70.5", "val", "ResNet-18; Conformer 88.4", _MCR),
    ("pretrained", "crema_d", "73.3", "val", "ResNet-18; Conformer 82.4", _MCR),
    ("pretrained", "ave", "72.5", "val", "ResNet-18; Conformer 86.5", _MCR),
    ("pretrained_frozen", "crema_d", "72.4", "val", "ResNet-18; Conformer 85.0", _MCR),
    ("pretrained_frozen", "ave", "72.2", "val", "ResNet-18; Conformer 87.2", _MCR),
    ("multi_loss", "crema_d", "69.2", "val", "ResNet-18; Conformer 82.6", _MCR),
    ("mlb", "crema_d", "71.9", "val", "ResNet-18; Conformer 85.2", _MCR),
    ("mslr", "crema_d", "56.5", "val", "ResNet-18; Conformer 77.1", _MCR),
    ("mmcosine", "crema_d", "59.3", "val", "ResNet-18; Conformer 74.0", _MCR),
    ("ogm", "crema_d", "65.6", "val", "ResNet-18; Conformer 82.4", _MCR),
    ("agm", "crema_d", "69.3", "val", "ResNet-18; Conformer 78.5", _MCR),
    ("reconboost", "crema_d", "69.0", "val", "ResNet-18; Conformer 84.8", _MCR),
    ("mmpareto", "crema_d", "69.0", "val", "ResNet-18; Conformer 83.8", _MCR),
    ("relearning", "crema_d", "70.6", "val", "ResNet-18; Conformer 85.0", _MCR),
    ("relearning", "crema_d", "75.13", "test", "ResNet-18; 79.30 with losses of single modalities", _DR),
    ("relearning", "kinetics_sounds", "69.10", "test", "ResNet-18; 72.17 with losses of single modalities", _DR),
    ("relearning", "ucf101", "82.11", "test", "ResNet-18 from ImageNet", _DR),
    ("olm", "crema_d", "62.4", "?", "its code prints accuracies of training batches", _OLM),
    ("olm", "kinetics_sounds", "63.1", "?", "its code prints accuracies of training batches", _OLM),
    ("olm", "vggsound", "51.1", "?", "its code prints accuracies of training batches", _OLM),
    (
        "miles",
        "crema_d",
        "75.1",
        "val",
        "concat, split 70-15-15, 80 random configurations per method",
        "MILES paper, IJCNN 2025",
    ),
    ("miles", "crema_d", "61.05 +- 2.52", "?", "ResNet-18 from ImageNet", _NOTES),
    ("remix", "crema_d", "72.72", "test", "ResNet-18, 2 frames, 60 epochs, 3 seeds", _REMIX),
    ("remix", "kinetics_sounds", "55.63", "test", "ResNet-18, 60 epochs, 3 seeds", _REMIX),
    ("arl", "crema_d", "76.61", "test", "ResNet-18, 100 epochs", "ARL paper, ICCV 2025"),
    ("arl", "ave", "72.89", "test", "ResNet-18, 100 epochs", "ARL paper, ICCV 2025"),
    ("arl", "kinetics_sounds", "74.28", "test", "ResNet-18, 100 epochs", "ARL paper, ICCV 2025"),
    ("arl", "ucf101", "83.22", "test", "ResNet-18, 100 epochs", "ARL paper, ICCV 2025"),
    (
        "arl",
        "crema_d",
        "62.90",
        "?",
        "ResNet-18 from ImageNet, one seed",
        "re-run by others (public notes of the ASGML study)",
    ),
    ("dgl", "crema_d", "77.48", "test", "ResNet-18, 1 frame, 100 epochs", "DGL paper, ICCV 2025"),
    ("dgl", "kinetics_sounds", "74.78", "test", "ResNet-18, 3 frames, 100 epochs", "DGL paper, ICCV 2025"),
    ("dgl", "vggsound", "52.53", "test", "ResNet-18, 100 epochs", "DGL paper, ICCV 2025"),
    ("opm", "crema_d", "75.1", "test", "ResNet-18, 1 frame", _OPM),
    ("opm", "kinetics_sounds", "67.0", "test", "ResNet-18", _OPM),
    ("opm", "ucf101", "81.9", "test", "ResNet-18 from ImageNet", _OPM),
    ("opm", "vggsound", "54.1", "test", "ResNet-18", _OPM),
    ("ogm", "crema_d", "74.6", "test", "ResNet-18, 1 frame", _OPM),
    ("ogm", "kinetics_sounds", "65.4", "test", "ResNet-18", _OPM),
    ("opm_ogm", "crema_d", "76.7", "test", "ResNet-18, 1 frame", _OPM),
    ("opm_ogm", "kinetics_sounds", "68.0", "test", "ResNet-18", _OPM),
    ("opm_ogm", "crema_d", "69.84 +- 1.47", "?", "ResNet-18, 3 frames", _NOTES),
    ("ogm_ge", "crema_d", "61.9", "test", "ResNet-18, 1 frame; 51.7 for concat", "Peng et al., CVPR 2022"),
    ("ogm_ge", "crema_d", "69.14", "?", "ResNet-18 from ImageNet", _NOTES),
    (
        "lfm",
        "crema_d",
        "83.62",
        "?",
        "learning rate 0.01, ten times that of others",
        "AUG paper, NeurIPS 2025, by a public summary",
    ),
]
