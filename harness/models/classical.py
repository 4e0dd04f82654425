"""Classical baselines that any fine-tuned model has to beat: the majority class, and word counts."""

from collections.abc import Sequence

import numpy as np

from harness.models.classifier import Classifier, ModelInputs, Scores
from harness.progress import Advance
from harness.suite.schema import MajorityModel, TfidfModel


class Majority:
    """Predicts the training split's share of positives for every text."""

    def __init__(self, positive_share: float) -> None:
        self.positive_share = positive_share

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """The same score for all texts."""
        advance(len(texts), "")
        return Scores(np.full(len(texts), self.positive_share), tokens=None, truncated=None)


class Tfidf:
    """TF-IDF features of word n-grams and a logistic regression over them, fitted on construction."""

    def __init__(self, model: TfidfModel, texts: Sequence[str], labels: Sequence[int]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        low, high = model.ngram_range
        self.pipeline = make_pipeline(
            TfidfVectorizer(ngram_range=(low, high), sublinear_tf=model.sublinear_tf),
            LogisticRegression(C=model.C, max_iter=1000),
        )
        self.pipeline.fit(texts, labels)

    def predict(self, texts: Sequence[str], advance: Advance) -> Scores:
        """Probabilities of class 1."""
        scores = np.asarray(self.pipeline.predict_proba(texts)[:, 1], dtype=np.float64)
        advance(len(texts), "")
        return Scores(scores, tokens=None, truncated=None)


def majority(model: MajorityModel, ingredients: ModelInputs) -> Classifier:
    """Fit the majority class."""
    return Majority(float(np.mean(ingredients.train_labels)))


def tfidf(model: TfidfModel, ingredients: ModelInputs) -> Classifier:
    """Fit TF-IDF and logistic regression."""
    return Tfidf(model, ingredients.train_texts, ingredients.train_labels)
