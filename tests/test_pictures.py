import pytest

from analysis.pictures import check_picture_path, logarithmic, picture
from latency_models.errors import InputError


def test_a_picture_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "curves.svg"
    with picture(path, 1, 2, size=(3.0, 2.0)) as (figure, axes):
        axes[0][0].plot([1, 2], [3, 4])
        figure.suptitle("two panels")
        assert [len(row) for row in axes] == [2]
        assert not path.exists()
    assert "two panels" in path.read_text(encoding="utf-8") or path.stat().st_size > 1000
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), picture(tmp_path / "a.png", 1, 1, size=(3.0, 2.0)):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("high", "least"), [(40.0, 3), (900.0, 4), (1e6, 4)])
def test_logarithmic_axes_have_several_plain_labels(tmp_path, high, least):
    with picture(tmp_path / "a.png", 1, 1, size=(4.0, 3.0)) as (figure, [[axes]]):
        axes.plot([11.0, high], [11.0, high])
        logarithmic(axes, x=True, y=True)
        figure.canvas.draw()
        for axis in (axes.xaxis, axes.yaxis):
            low, top = axis.get_view_interval()
            labels = [
                label.get_text()
                for label in axis.get_majorticklabels()
                if low <= label.get_position()[axis is axes.yaxis] <= top
            ]
            assert len(labels) >= least
            assert all(set(label) <= set("0123456789,.") for label in labels)


@pytest.mark.parametrize(("name", "message"), [("a.bmp", "ends in .pdf, .png, .svg"), ("no/a.png", "does not exist")])
def test_places_without_a_picture_are_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        check_picture_path("--plot", tmp_path / name)
