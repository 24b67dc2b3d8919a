"""Pipelines over real house sales: texts, numbers, missing values, unknown categories, in every way encoders have."""

import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from foretell.model.formats.sklearn import open_model
from foretell.model.model import Model

sys.path.insert(0, str(Path(__file__).parent))
from sklearn_reading import assert_agrees, converted, predict, table_of

pytestmark = pytest.mark.filterwarnings("ignore")
AMES = Path(__file__).parents[2] / "examples" / "ames" / "ames.csv"
TRAIN_ROWS = 1200


@pytest.fixture(scope="module")
def homes():
    frame = pd.read_csv(AMES)
    prices = frame.pop("Sale_Price").to_numpy(float)
    frame = frame.drop(columns=[c for c in ("rownames", "PID") if c in frame])
    frame.loc[::7, "Lot_Frontage"] = np.nan
    frame.loc[::11, "Street"] = np.nan
    return frame.sample(2000, random_state=0).reset_index(drop=True), prices[
        pd.Series(range(len(prices))).sample(2000, random_state=0)
    ]


@pytest.fixture(scope="module")
def columns(homes):
    numbers = [c for c in homes[0] if homes[0][c].dtype.kind in "if"]
    return numbers, [c for c in homes[0] if c not in numbers]


def with_strangers(frame, columns):
    """Return the rows after training, some with values that no category knows."""
    rows = frame.iloc[TRAIN_ROWS:].copy().reset_index(drop=True)
    for place, column in enumerate(columns):
        rows[column] = rows[column].astype(object)
        rows.loc[place :: len(columns) * 3, column] = "Atlantis"
    return rows


def trained(estimator, homes, target=None):
    frame, prices = homes
    y = prices if target is None else target(prices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(frame[:TRAIN_ROWS], y[:TRAIN_ROWS])


def one_hot(columns, **options):
    numbers, texts = columns
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (
            make_pipeline(
                SimpleImputer(strategy="constant", fill_value="missing"),
                OneHotEncoder(**{"handle_unknown": "ignore", **options}),
            ),
            texts,
        ),
    )


LAST_STEPS = {
    "ridge": Ridge(),
    "forest": RandomForestRegressor(10, random_state=0),
    "histograms": HistGradientBoostingRegressor(max_iter=10),
    "best_then_ridge": make_pipeline(SelectKBest(k=50), Ridge()),
    "voting": VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(5, random_state=0))]),
}


@pytest.mark.parametrize("last", LAST_STEPS)
def test_one_hot_and(last, homes, columns):
    sparse = last != "histograms"
    estimator = trained(make_pipeline(one_hot(columns, sparse_output=sparse), LAST_STEPS[last]), homes)
    reading = converted(estimator, homes[0][:300])
    assert len(reading.signature.fields) == homes[0].shape[1]
    assert_agrees(estimator, reading, with_strangers(homes[0], columns[1]))


ONE_HOT = [
    {"drop": "first"},
    {"drop": "if_binary", "sparse_output": False},
    {"min_frequency": 20, "handle_unknown": "infrequent_if_exist"},
    {"max_categories": 3},
    {"dtype": np.float32},
]


@pytest.mark.parametrize("options", ONE_HOT, ids=str)
def test_one_hot_options(options, homes, columns):
    estimator = trained(make_pipeline(one_hot(columns, **options), Ridge()), homes)
    assert_agrees(estimator, converted(estimator), with_strangers(homes[0], columns[1]), tolerance=1e-5)


ENCODERS = {
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "ordinal_missing": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=-2
    ),
    "ordinal_infrequent": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=15, encoded_missing_value=-5
    ),
    "target": TargetEncoder(target_type="continuous", random_state=0),
    "most_frequent_then_one_hot": make_pipeline(
        SimpleImputer(strategy="most_frequent", add_indicator=True), OneHotEncoder(handle_unknown="ignore")
    ),
    "one_hot_of_missing": OneHotEncoder(handle_unknown="ignore"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name, homes, columns):
    numbers, texts = columns
    steps = ColumnTransformer([("texts", ENCODERS[name], texts), ("numbers", "passthrough", numbers)])
    last = (
        HistGradientBoostingRegressor(max_iter=10) if "one_hot" not in name else make_pipeline(SimpleImputer(), Ridge())
    )
    estimator = trained(make_pipeline(steps, last), homes)
    assert_agrees(estimator, converted(estimator), with_strangers(homes[0], texts))


def test_an_encoder_that_refuses_unknown_makes_its_fields_closed(homes, columns):
    steps = make_column_transformer((OneHotEncoder(), ["Street", "Bldg_Type"]), remainder="drop")
    estimator = trained(make_pipeline(steps, Ridge()), homes)
    reading = converted(estimator)
    assert [(f.name, f.closed, f.nullable) for f in reading.signature.fields] == [
        ("Street", True, True),
        ("Bldg_Type", True, False),
    ]
    assert_agrees(estimator, reading, homes[0][TRAIN_ROWS:])


def test_categories_that_are_numbers(homes):
    steps = ColumnTransformer(
        [
            ("years", OneHotEncoder(handle_unknown="ignore"), ["Year_Sold", "Mo_Sold"]),
            ("month_as_number", StandardScaler(), ["Mo_Sold"]),
        ]
    )
    estimator = trained(make_pipeline(steps, Ridge()), homes)
    reading = converted(estimator)
    field = reading.signature.field_named("Year_Sold")
    assert field.kind == "category"
    assert field.categories == (2006, 2007, 2008, 2009, 2010)
    rows = homes[0][TRAIN_ROWS:].copy()
    rows.loc[rows.index[::5], "Year_Sold"] = 1999
    assert_agrees(estimator, reading, rows)


def test_histograms_with_categories_of_their_own(homes, columns):
    frame, prices = homes
    typed = frame.copy()
    typed[columns[1]] = typed[columns[1]].astype("category")
    estimator = HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=20)
    estimator.fit(typed[:TRAIN_ROWS], prices[:TRAIN_ROWS])
    reading = converted(estimator)
    assert sum(f.kind == "category" for f in reading.signature.fields) == len(columns[1])
    values, _ = predict(reading, with_strangers(frame, columns[1]))
    rows = with_strangers(frame, columns[1])
    rows[columns[1]] = rows[columns[1]].astype("category")
    np.testing.assert_allclose(values, estimator.predict(rows), rtol=1e-12)


def test_histograms_behind_an_ordinal_encoder(homes, columns):
    _, texts = columns
    steps = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), texts), remainder="passthrough"
    )
    last = HistGradientBoostingClassifier(categorical_features=list(range(len(texts))), max_iter=10)
    estimator = trained(make_pipeline(steps, last), homes, lambda p: np.where(p > 2e5, "dear", "cheap"))
    assert_agrees(estimator, converted(estimator), with_strangers(homes[0], texts))


def test_unions_weights_selectors_and_nesting(homes):
    numbers = make_column_selector(dtype_include="number")
    inner = ColumnTransformer([("scale", make_pipeline(SimpleImputer(), StandardScaler()), numbers)], remainder="drop")
    texts = ColumnTransformer(
        [("streets", OneHotEncoder(handle_unknown="ignore"), ["Street", "Alley"])], transformer_weights={"streets": 3.0}
    )
    union = FeatureUnion([("numbers", inner), ("texts", texts)], transformer_weights={"numbers": 0.5})
    estimator = trained(make_pipeline(union, Ridge()), homes)
    assert_agrees(estimator, converted(estimator), homes[0][TRAIN_ROWS:])


def test_pipelines_inside_a_stack(homes, columns):
    forest = make_pipeline(one_hot(columns), RandomForestRegressor(5, random_state=0))
    stack = StackingRegressor([("a", make_pipeline(one_hot(columns), Ridge())), ("b", forest)], cv=2)
    estimator = trained(stack, homes)
    assert_agrees(estimator, converted(estimator), with_strangers(homes[0], columns[1]))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_boosting_libraries_as_last_steps(library, homes, columns):
    boosting = pytest.importorskip(library)
    kinds = {
        "xgboost": lambda: boosting.XGBClassifier(n_estimators=10),
        "lightgbm": lambda: boosting.LGBMClassifier(n_estimators=10, verbose=-1),
        "catboost": lambda: boosting.CatBoostClassifier(n_estimators=10, verbose=0, allow_writing_files=False),
    }
    estimator = trained(make_pipeline(one_hot(columns), kinds[library]()), homes, lambda p: (p > 2e5).astype(int))
    assert_agrees(estimator, converted(estimator), with_strangers(homes[0], columns[1]), tolerance=1e-5, flips=1)


def test_a_step_without_a_graph_is_named(homes, columns):
    from foretell.model.estimators.reading import read

    steps = make_column_transformer((FunctionTransformer(lambda x: x * 2), ["Lot_Area"]), remainder="drop")
    reading = read(trained(make_pipeline(steps, Ridge()), homes), table_of(homes[0][:50]))
    assert not reading.graphs
    assert 'step "columntransformer.functiontransformer": FunctionTransformer calls "<lambda>"' in reading.notes[0]


def test_the_whole_way_through_the_child(tmp_path, homes, columns):
    estimator = trained(make_pipeline(one_hot(columns), LogisticRegression(max_iter=50)), homes, lambda p: p > 2e5)
    path = tmp_path / "dear.joblib"
    joblib.dump(estimator, path, compress=3)
    opened = open_model(path, trust=True, sample=table_of(homes[0][:200]))
    rows = homes[0][TRAIN_ROWS:]
    try:
        assert [r.kind for r in opened.runners] == ["onnxruntime"]
        assert opened.about["estimator"] == "Pipeline(ColumnTransformer > LogisticRegression)"
        assert opened.signature.field_named("Lot_Area").low == homes[0]["Lot_Area"][:200].min()
        original = opened.reference.predict(table_of(rows))
        np.testing.assert_allclose(original.probabilities, estimator.predict_proba(rows))
        assert opened.reference.time_s(table_of(rows[:1])) > 0
    finally:
        opened.reference.close()
    with Model(opened) as model:
        answers = model.predict(rows)
    assert answers.values.tolist() == estimator.predict(rows).tolist()
    np.testing.assert_allclose(answers.probabilities, estimator.predict_proba(rows), atol=1e-9)


def test_extra_trees_say_the_same_alone_and_together(homes, columns):
    estimator = trained(
        make_pipeline(one_hot(columns), ExtraTreesClassifier(20)), homes, lambda p: (p // 1e5).astype(int)
    )
    reading = converted(estimator)
    rows = homes[0][TRAIN_ROWS : TRAIN_ROWS + 40]
    _, together = predict(reading, rows)
    for place in range(0, 40, 8):
        _, alone = predict(reading, rows[place : place + 1])
        assert alone[0].tolist() == together[place].tolist()
