"""The corpora by name, with what their publishers state of each archive.

A size or checksum stands here only where a source states it; the source is beside it. Where none
is known it is left out: such an archive is checked by the checksums inside it, and its sha256 is
recorded when it is first fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aasist_deploy.corpora._types import Archive, Corpus, Count
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ODC_BY: Final = "Open Data Commons Attribution License (ODC-By) 1.0"
_GB: Final = 10**9


def _zenodo(record: int, file: str) -> tuple[str, ...]:
    return (f"https://zenodo.org/records/{record}/files/{file}?download=1",)


def _keys(track: str, md5: tuple[str, ...], about_bytes: int) -> Archive:
    file = f"{track}-keys-full.tar.gz"
    return Archive(
        file=file,
        urls=(f"https://www.asvspoof.org/asvspoof2021/{file}",),
        about_bytes=about_bytes,
        md5=md5,
    )


# Size: Content-Length of the server, as several public download scripts record it.
# md5: the README beside LA.zip on DataShare, as quoted by several public projects.
# Counts: lines of the three protocols.
_ASVSPOOF2019_LA: Final = Corpus(
    name="asvspoof2019-la",
    title="ASVspoof 2019, logical access (synthesis and conversion)",
    dataset="asvspoof2019-la",
    archives=(
        Archive(
            file="LA.zip",
            urls=(
                (
                    "https://datashare.ed.ac.uk/server/api/core/bitstreams/"
                    "a9f87c35-f055-4015-80e2-2fdff0d46269/content"
                ),
                "https://datashare.ed.ac.uk/bitstream/handle/10283/3336/LA.zip",
            ),
            about_bytes=7_640_952_520,
            n_bytes=7_640_952_520,
            md5=("30c98f11d8b2bc21f2c257bfd78bb5c5",),
        ),
    ),
    splits=("train", "dev", "eval"),
    counts={
        "train": Count(trials=25_380, bonafide=2_580, spoof=22_800),
        "dev": Count(trials=24_844, bonafide=2_548, spoof=22_296),
        "eval": Count(trials=71_237, bonafide=7_355, spoof=63_882),
    },
    licence=_ODC_BY,
    citation="X. Wang et al., ASVspoof 2019: A large-scale public database of synthesized, "
    "converted and replayed speech, Computer Speech & Language 64, 2020, doi:10.7488/ds/2555",
    page="https://datashare.ed.ac.uk/handle/10283/3336",
)

# Counts: trials of the eval subset and of the whole as published results and public projects that
# read the full keys count them; those of progress and hidden are not stated in a source found.
_CITE_2021: Final = (
    "X. Liu et al., ASVspoof 2021: Towards spoofed and deepfake speech detection in the wild, "
    "IEEE/ACM Transactions on Audio, Speech and Language Processing, 2023, arXiv:2210.02437"
)
_SPLITS_2021: Final = ("eval", "progress", "hidden")

# LA-keys-full.tar.gz: the evaluation package's README of 2022 states md5
# 037592a0515971bbd0fa3bff2bad4abc; a later copy says that the file was replaced on 2023-04-13, and
# its checksum since then was not found. So none is required. Sizes of the keys: about 47 MB both.
_ASVSPOOF2021_LA: Final = Corpus(
    name="asvspoof2021-la",
    title="ASVspoof 2021, logical access (telephony)",
    dataset="asvspoof2021-la",
    archives=(
        _keys("LA", (), 21_000_000),
        Archive(
            file="ASVspoof2021_LA_eval.tar.gz",
            urls=_zenodo(4837263, "ASVspoof2021_LA_eval.tar.gz"),
            about_bytes=int(7.8 * _GB),
            # md5 of the Zenodo record, as several public projects quote and check it.
            md5=("2abee34d8b0b91159555fc4f016e4562",),
        ),
    ),
    splits=_SPLITS_2021,
    counts={"eval": Count(trials=148_176)},
    n_trials=181_566,
    licence=_ODC_BY,
    citation=_CITE_2021,
    page="https://zenodo.org/records/4837263",
)

# Sizes: two public download scripts. md5 of the Zenodo record, as two public scripts quote it; for
# part 03 they differ in one digit, so either will do. Keys: README of the evaluation package.
_DF_PARTS: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "00": (8_637_050_238, ("4f2cbae07cf3ede2a1dde3b8d2ee55ea",)),
    "01": (8_624_944_890, ("1578c89ab433c2b60b1dce93bdf8fbec",)),
    "02": (8_616_337_195, ("5497a35f0126e94a1d7a7d26db57b4f7",)),
    "03": (
        8_656_151_261,
        ("42b7512ba2943e98a32a53c9608cf83c", "42b7512ba2943e98a32a53c9608cf03c"),
    ),
}
_ASVSPOOF2021_DF: Final = Corpus(
    name="asvspoof2021-df",
    title="ASVspoof 2021, deepfake (compressed media)",
    dataset="asvspoof2021-df",
    archives=(
        _keys("DF", ("dabbc5628de4fcef53036c99ac7ab93a",), 26_000_000),
        *(
            Archive(
                file=f"ASVspoof2021_DF_eval_part{part}.tar.gz",
                urls=_zenodo(4835108, f"ASVspoof2021_DF_eval_part{part}.tar.gz"),
                about_bytes=n_bytes,
                n_bytes=n_bytes,
                md5=md5,
            )
            for part, (n_bytes, md5) in _DF_PARTS.items()
        ),
    ),
    splits=_SPLITS_2021,
    counts={"eval": Count(trials=533_928)},
    n_trials=611_829,
    licence=_ODC_BY,
    citation=_CITE_2021,
    page="https://zenodo.org/records/4835108",
)

# md5: README.txt of the database, section 2. Sizes: the file list of its copy on Hugging Face
# (jungjee/asvspoof5) for dev and eval; train from the 142.3 GB of the whole record.
# Protocols: 20,669,392 bytes, a public project that checked the md5.
_PARTS_5: Final[dict[str, tuple[str, int, tuple[str, ...]]]] = {
    "train": (
        "T",
        int(7.6 * _GB),
        (
            "b0cc86b14826a7701b52aad4f53daf9c",
            "d05be3f4be7a343fdbdd0ed29fdff2e1",
            "70d1ba4ad75a20aef3dae541fbd321e3",
            "c9bb56af2cc410d98338d74babcb95c9",
            "a3969816982f3e52300d6147ad796df7",
        ),
    ),
    "dev": (
        "D",
        int(6.8 * _GB),
        (
            "df0be44957623991028cce59792beb17",
            "1e8cd685d89b64502692f1bcf1a13db3",
            "5e0031f08c30e4bdbf0c59f91b2d662b",
        ),
    ),
    "eval": (
        "E",
        int(8.5 * _GB),
        (
            "a8c800766f3d4ef87971e2b4f29663e2",
            "c35064188f54f07c87aba58de22534a0",
            "ed7cbcd1b2847998b72472ddf6b445e3",
            "626a080e994b05df49c577d7b3dede8d",
            "05f19a5e64fa556714ae1b38eb2ea70b",
            "2ca2f52a3bbf827f7ec155ecb47e85d6",
            "671200b5de2fc1e74a563b07b057af8f",
            "eaf885b1299a61eb07f71e82e96dba37",
            "b2625683bf440abae2af901a45542ad9",
            "c50281c8233af6f3b0899604d21ade44",
        ),
    ),
}
_ASVSPOOF5: Final = Corpus(
    name="asvspoof5",
    title="ASVspoof 5 (crowdsourced speech, deepfakes and adversarial attacks)",
    dataset="asvspoof5-t1",
    archives=(
        Archive(
            file="ASVspoof5_protocols.tar.gz",
            urls=_zenodo(14498691, "ASVspoof5_protocols.tar.gz"),
            about_bytes=20_669_392,
            n_bytes=20_669_392,
            md5=("865d0e894ea9f686f0f37e5ae3ae3616",),
        ),
        *(
            Archive(
                file=f"flac_{letter}_a{part}.tar",
                urls=_zenodo(14498691, f"flac_{letter}_a{part}.tar"),
                about_bytes=about_bytes,
                md5=(md5,),
                splits=(split,),
            )
            for split, (letter, about_bytes, sums) in _PARTS_5.items()
            for part, md5 in zip("abcdefghij", sums, strict=False)
        ),
    ),
    splits=("train", "dev", "eval"),
    # Trials: README.txt, section 2. Classes: counted in the protocols by a public project.
    counts={
        "train": Count(trials=182_357, bonafide=18_797, spoof=163_560),
        "dev": Count(trials=140_950, bonafide=31_334, spoof=109_616),
        "eval": Count(trials=680_774, bonafide=138_688, spoof=542_086),
    },
    licence=f"{_ODC_BY}; its bona fide speech CC BY 4.0",
    citation="X. Wang et al., ASVspoof 5: Crowdsourced speech data, deepfakes, and adversarial "
    "attacks at scale, ASVspoof Workshop 2024, doi:10.21437/ASVspoof.2024-1",
    page="https://zenodo.org/records/14498691",
)

# No source states a checksum or the exact size; about 8.16 GB.
_IN_THE_WILD: Final = Corpus(
    name="in-the-wild",
    title="In-the-Wild (deepfakes of public figures)",
    dataset="in-the-wild",
    archives=(
        Archive(
            file="release_in_the_wild.zip",
            urls=(
                (
                    "https://huggingface.co/datasets/mueller91/In-The-Wild/resolve/main/"
                    "release_in_the_wild.zip"
                ),
                "https://owncloud.fraunhofer.de/index.php/s/JZgXh0JEAF0elxa/download",
            ),
            about_bytes=int(8.2 * _GB),
        ),
    ),
    splits=("all",),
    counts={"all": Count(trials=31_779, bonafide=19_963, spoof=11_816)},  # lines of meta.csv
    licence="Apache-2.0 by the authors' page, CC BY-SA 4.0 by the card of the copy on Hugging Face",
    citation="N. M. Müller et al., Does audio deepfake detection generalize?, Interspeech 2022, "
    "arXiv:2203.16263",
    page="https://deepfake-total.com/in_the_wild",
)

CORPORA: Final[Mapping[str, Corpus]] = {
    corpus.name: corpus
    for corpus in (
        _ASVSPOOF2019_LA,
        _ASVSPOOF2021_LA,
        _ASVSPOOF2021_DF,
        _ASVSPOOF5,
        _IN_THE_WILD,
    )
}


def corpus_of(name: str) -> Corpus:
    """The corpus of this name.

    Raises:
        UsageError: There is none; the message lists those there are.
    """
    try:
        return CORPORA[name]
    except KeyError as error:
        raise UsageError(
            f"{name!r} is not a corpus that can be fetched; known: {', '.join(CORPORA)}."
        ) from error
