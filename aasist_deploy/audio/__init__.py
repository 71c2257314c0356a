"""Any audio file -> mono float32 wave at 16 kHz -> a window of a fixed number of samples.

Scores move with loudness, trimmed silence and zero padding, so nothing here normalises, trims or
pads: a wave is what the file holds, and the only changes are the mean over channels and, where the
rate differs, one documented resampler.

A file is decoded in blocks, and a block is mixed down and resampled before the next is read. Memory
is therefore bounded by the result, whatever length a header declares, and reading only the first
samples of a long file gives exactly the first samples of a full read: it is the same computation,
stopped early (soxr's stream gives the bits of its one-shot call for every block size).
"""

from aasist_deploy.audio._blocks import Gap, Heard, Item, file_blocks
from aasist_deploy.audio._find import AUDIO_SUFFIXES, find_audio, find_named
from aasist_deploy.audio._microphone import device_list, microphone
from aasist_deploy.audio._pipe import (
    PCM_FORMATS,
    PcmFormat,
    Pipe,
    Stop,
    check_pcm,
    pcm_blocks,
    pipe_blocks,
)
from aasist_deploy.audio._wave import (
    N_SAMPLES,
    SAMPLE_RATE_HZ,
    Audio,
    fit_length,
    read_audio,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "N_SAMPLES",
    "PCM_FORMATS",
    "SAMPLE_RATE_HZ",
    "Audio",
    "Gap",
    "Heard",
    "Item",
    "PcmFormat",
    "Pipe",
    "Stop",
    "check_pcm",
    "device_list",
    "file_blocks",
    "find_audio",
    "find_named",
    "fit_length",
    "microphone",
    "pcm_blocks",
    "pipe_blocks",
    "read_audio",
]
