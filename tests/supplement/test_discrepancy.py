import numpy as np
import pytest

from regl_app.core.errors import ProtocolError
from regl_app.supplement.discrepancy import class_discrepancy

# Two probe images of class 0, one of class 1, none of class 2.
LABELS = [0, 0, 1]
P_GLOBAL = np.array([[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.2, 0.7, 0.1]])
P_LOCAL = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.05, 0.9, 0.05]])


def test_golden_values():
    d = class_discrepancy(np.log(P_GLOBAL), np.log(P_LOCAL), LABELS, 3)
    # Class 0: image 1 adds 0.8 - 0.2; image 2 is gated (0.3 < 1/3). Class 1: 0.7 - 0.9.
    np.testing.assert_allclose(d, [0.3, -0.2, 0.0])


def test_positive_where_the_global_model_is_surer():
    d = class_discrepancy(np.log(P_GLOBAL), np.log(P_LOCAL), LABELS, 3)
    assert d[0] > 0 > d[1]


def test_equal_models_have_none():
    assert not class_discrepancy(np.log(P_GLOBAL), np.log(P_GLOBAL), LABELS, 3).any()


def test_a_certain_local_model_may_give_zero_probability():
    with np.errstate(divide="ignore"):
        d = class_discrepancy([[0.0, -np.inf]], [[-np.inf, 0.0]], [0], 2)
    assert d.tolist() == [1.0, 0.0]


def test_refuses_nan_and_wrong_shapes():
    with pytest.raises(ProtocolError, match="diverged"):
        class_discrepancy(np.full((3, 3), np.nan), np.log(P_LOCAL), LABELS, 3)
    with pytest.raises(ProtocolError, match=r"log_p_local must be \(3, 3\)"):
        class_discrepancy(np.log(P_GLOBAL), np.log(P_LOCAL)[:2], LABELS, 3)
