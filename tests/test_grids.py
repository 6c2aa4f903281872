import gzip
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.errors import InputError
from latency_models.tables.grids import Curve, Grid, build_curve, build_grid, read_rows

POINTS = (1.0, 4.0, 10.0)
VALUES = (2.0, 5.0, 8.0)


def curve(beyond="refuse"):
    return Curve("tokens", POINTS, VALUES, beyond=beyond)


def test_points_come_back_exactly_and_between_them_it_is_linear():
    assert [curve().law(point)[0] for point in POINTS] == list(VALUES)
    assert curve().law(2.0) == (3.0, 1.0, 2.0)
    assert curve().law(7.0) == (6.5, 0.5, 3.0)


def test_on_a_point_the_law_is_that_of_the_part_to_its_right():
    assert curve().law(4.0) == (5.0, 0.5, 6.0)


def test_below_the_first_point_the_value_is_level_up_to_it():
    assert curve().law(0.25) == (2.0, 0.0, 0.75)


def test_beyond_the_last_point_each_rule_does_what_it_says():
    assert curve("hold").law(20.0) == (8.0, 0.0, math.inf)
    assert curve("prolong").law(20.0) == pytest.approx((16.0, 0.8, math.inf))
    assert curve("refuse").law(10.0) == (8.0, 0.0, 0.0)
    with pytest.raises(InputError, match=r"tokens is 10\.5; allowed: at most 10"):
        curve("refuse").law(10.5)


def test_a_single_point_is_level_and_prolonged_in_proportion():
    single = Curve("tokens", [4], [2.0], beyond="prolong")
    assert single.law(1) == (2.0, 0.0, 3)
    assert single.law(8)[0] == 4.0


def ragged(beyond="prolong"):
    """f = x + 10 y, with other points of x at each y."""
    rows = [(y, x, x + 10.0 * y) for y, xs in ((0.0, (1, 5)), (2.0, (1, 3, 9)), (4.0, (2, 9))) for x in xs]
    return build_grid(("y", "x"), rows, beyond=beyond)


@pytest.mark.parametrize(("y", "x"), [(0.0, 3.0), (1.0, 4.0), (2.0, 8.0), (3.0, 2.5), (4.0, 9.0)])
def test_a_table_with_other_points_in_each_row_is_exact_for_a_bilinear_function(y, x):
    value, slope, _ = ragged().law(y, x)
    assert value == pytest.approx(x + 10.0 * y)
    if x < 9.0:
        assert slope == pytest.approx(1.0)


def test_the_reach_is_that_of_the_nearer_breakpoint_of_both_rows():
    assert ragged().law(1.0, 2.0)[2] == 1.0, "row 2 has a point at 3, row 0 at 5"


@given(st.floats(0.0, 12.0), st.floats(0.5, 20.0), st.floats(0.0, 1.0))
def test_inside_its_reach_a_law_is_what_look_ups_give(y, x, share):
    table = ragged()
    value, slope, reach = table.law(y, x)
    step = share * min(reach, 50.0)
    assert table.law(y, x + step)[0] == pytest.approx(value + slope * step, rel=1e-9)


def test_beyond_the_last_row_values_and_slopes_grow_in_proportion():
    inside = ragged().law(4.0, 5.0)
    assert ragged().law(8.0, 5.0) == pytest.approx((2 * inside[0], 2 * inside[1], inside[2]))
    assert ragged("hold").law(8.0, 5.0) == inside
    with pytest.raises(InputError, match="y is 8"):
        ragged("refuse").law(8.0, 5.0)


def test_four_axes_nest():
    rows = [
        (a, b, c, d, 1.0 + a + 2 * b + 3 * c + 4 * d) for a in (0, 2) for b in (0, 1) for c in (1, 3) for d in (1, 5)
    ]
    table = build_grid(("a", "b", "c", "d"), rows, beyond="refuse")
    assert table.law(1.0, 0.5, 2.0, 3.0) == pytest.approx((1 + 1 + 1 + 6 + 12, 4.0, 2.0))


def test_points_measured_several_times_count_with_their_median():
    table = build_curve("x", [(1, 5.0), (2, 8.0), (1, 7.0), (1, 900.0)], beyond="refuse")
    assert table.law(1)[0] == 7.0


@pytest.mark.parametrize(
    ("points", "values", "message"),
    [
        ([], [], "points of tokens"),
        ([1, 1], [1.0, 2.0], "ascending, each once"),
        ([2, 1], [1.0, 2.0], "ascending, each once"),
        ([-1, 1], [1.0, 2.0], "point of tokens is -1"),
        ([1, math.nan], [1.0, 2.0], "point of tokens is nan"),
        ([1, math.inf], [1.0, 2.0], "point of tokens is inf"),
        ([1, 2], [1.0], "one for each of 2 points"),
        ([1, 2], [1.0, 0.0], "value over tokens is 0.0"),
        ([1, 2], [1.0, -3.0], "value over tokens is -3"),
        ([1, 2], [1.0, math.nan], "value over tokens is nan"),
        ([1, 2], [1.0, math.inf], "value over tokens is inf"),
    ],
)
def test_bad_points_are_refused(points, values, message):
    with pytest.raises(InputError, match=message):
        Curve("tokens", points, values, beyond="refuse")


def test_other_bad_arguments_are_refused():
    with pytest.raises(InputError, match="did you mean 'prolong'"):
        curve("prolongue")
    with pytest.raises(InputError, match="at least one measured point"):
        build_curve("x", [], beyond="hold")
    with pytest.raises(InputError, match="one for each of 2 points"):
        Grid("y", [1, 2], [curve()], beyond="hold")


def write(path, text):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("name", ["times.csv", "times.csv.gz"])
def test_rows_are_read_by_group(tmp_path, name):
    path = write(tmp_path / name, "layer,tokens,other,time_us\na,1,x,2.5\nb,1,x,3\na,2,x,4\nskip,1,x,5\n")
    label = lambda cells: None if cells["layer"] == "skip" else cells["layer"]  # noqa: E731
    assert read_rows(path, ("tokens", "time_us"), label=label) == {"a": [(1.0, 2.5), (2.0, 4.0)], "b": [(1.0, 3.0)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokens,time\n1,2\n", "no time_us"),
        ("", "no tokens, time_us"),
        ("tokens,time_us\n1,0\n", "line 2, time_us is 0; allowed: a finite number > 0"),
        ("tokens,time_us\n1,2\n2,-1\n", "line 3, time_us is '-1'"),
        ("tokens,time_us\n1,nan\n", "time_us is 'nan'"),
        ("tokens,time_us\ninf,1\n", "tokens is 'inf'"),
        ("tokens,time_us\n1,\n", "time_us is ''"),
        ("tokens,time_us\n1\n", "time_us is None"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(tmp_path, text, message):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path, ("tokens", "time_us"))
    assert "t.csv" in str(caught.value)


def test_a_file_that_is_not_there_or_is_not_gzip_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_rows(tmp_path / "none.csv", ("x",))
    (tmp_path / "bad.csv.gz").write_text("tokens,time_us\n1,2\n")
    with pytest.raises(InputError, match="cannot read"):
        read_rows(tmp_path / "bad.csv.gz", ("tokens", "time_us"))
