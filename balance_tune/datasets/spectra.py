"""Spectrograms as the papers' official code computes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIT = 1 / 2000
"""Real value of a step of a log-spectrogram stored as int16: from -16.38 to 16.38, off by at most 2.5e-4."""


def log_spectrogram(wave: NDArray[np.float32], n_fft: int, hop: int, floor: float = 1e-7) -> NDArray[np.float32]:
    """Return log(|STFT| + floor), (1, n_fft // 2 + 1, 1 + samples // hop), equal to librosa's.

    Periodic Hann window of n_fft, frames centred, zeros beyond both ends (librosa 0.10).

    Args:
        wave: (samples,).
        n_fft: length of a window in samples.
        hop: samples between windows.
        floor: added before the logarithm.
    """
    from scipy.fft import rfft
    from scipy.signal import get_window

    padded = np.pad(wave.astype(np.float32, copy=False), n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    # in double precision up to the transform, in single from there, which shows where there is silence
    transform = rfft(frames * get_window("hann", n_fft, fftbins=True), axis=1).astype(np.complex64)
    return np.ascontiguousarray(np.log(np.abs(transform) + np.float32(floor)).T[None])


def steps(log: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return a log-spectrogram in whole steps of `UNIT`."""
    limits = np.iinfo(np.int16)
    whole_steps: NDArray[np.int16] = np.clip(np.rint(log / np.float32(UNIT)), limits.min, limits.max).astype(np.int16)
    return whole_steps


def tiled(wave: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Return sound repeated until it has `samples`, cut there, limited to -1 .. 1."""
    repeated = np.tile(wave, -(-samples // len(wave)))[:samples]
    return np.clip(repeated, -1.0, 1.0)


def filter_bank(wave: NDArray[np.float32], rate: int, frames: int = 1024) -> NDArray[np.float16]:
    """Return Kaldi's log filter bank energies (1, frames, 128), scaled as in BML and the Audio Spectrogram Transformer.

    Mean subtracted, Hanning window of 25 ms every 10 ms, no dither; (x + 4.503877) / (2 * 5.141276); cut, or filled
    with zeros before scaling.

    Args:
        wave: (samples,).
        rate: in Hz.
        frames: length of the result; longer sounds are cut, shorter ones padded.
    """
    import torch
    from torchaudio.compliance import kaldi

    signal = torch.from_numpy(wave - wave.mean(dtype=np.float64).astype(np.float32))[None]
    bank = kaldi.fbank(
        signal,
        htk_compat=True,
        sample_frequency=rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    ).numpy()
    full = np.zeros((frames, 128), dtype=np.float32)
    full[: len(bank)] = bank[:frames]
    return ((full + 4.503877) / (2 * 5.141276)).astype(np.float16)[None]


def standard_spectrogram(wave: NDArray[np.float32], rate: int) -> NDArray[np.float16]:
    """Return PMR's spectrogram (1, 257, frames): scipy's, 512 long, 353 overlapping, log(x + 1e-7), standardised."""
    from scipy.signal import spectrogram

    _, _, power = spectrogram(wave, rate, nperseg=512, noverlap=353)
    log = np.log(power + 1e-7)
    standardised: NDArray[np.float16] = ((log - log.mean()) / (log.std() + 1e-9)).astype(np.float16)
    return standardised[None]
