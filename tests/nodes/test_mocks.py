"""``unittest.mock`` takes a node for its function, and a mock is called like what it stands for."""

import subprocess
import sys
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec, patch

import pytest

import railtracks as rt


@rt.function_node
async def fetch(url: str) -> str:
    return "real " + url


@rt.function_node
def square(n: int) -> int:
    return n * n


@rt.function_node
async def page(url: str) -> str:
    return "<" + await rt.call(fetch, url) + ">"


class Client:
    """With nodes as methods."""

    @rt.function_node
    async def get(self, url: str) -> str:
        return "real " + url

    @rt.function_node
    def count(self, url: str) -> int:
        return len(url)


@rt.function_node
async def page_of(client: Client, url: str) -> str:
    return "<" + await rt.call(client.get, url) + ">"


MOCKS = {"plain": {}, "autospec": {"autospec": True}, "spec": {"spec": True}}


@pytest.mark.parametrize("kind", MOCKS)
@pytest.mark.parametrize("saved", [True, False])
async def test_a_patched_node_is_called(kind, saved):
    with patch(f"{__name__}.fetch", **MOCKS[kind]) as mock:  # type: ignore[call-overload]
        mock.return_value = "fake"
        async with rt.Session(save_state=saved) as session:
            assert await rt.call(page, "u") == "<fake>"
    assert [record.name for record in session.info.records] == ["page", "fetch"]
    mock.assert_awaited_once_with("u")
    assert [str(each) for each in mock.mock_calls] == ["call('u')"]


async def test_a_patched_sync_node_is_called():
    with patch(f"{__name__}.square", autospec=True) as mock:
        mock.return_value = 5
        assert await rt.call(square, 2) == 5
    mock.assert_called_once_with(2)


@pytest.mark.parametrize(
    "make",
    [
        AsyncMock,
        lambda: AsyncMock(spec=fetch),
        lambda: create_autospec(fetch),
        lambda: Mock(return_value=1),
        lambda: MagicMock(spec=square),
    ],
)
async def test_a_mock_is_called_and_not_taken_for_a_node(make):
    mock = make()
    await rt.call(mock, "u")
    assert [str(each) for each in mock.mock_calls] == ["call('u')"]


async def test_a_mock_that_fails_fails():
    mock = AsyncMock(side_effect=KeyError("no"))
    with pytest.raises(KeyError):
        await rt.call(mock)


@rt.function_node
async def give(value, **others):
    rt.context.put("given", value)
    return [value, others]


@pytest.mark.parametrize("kind", [Mock, MagicMock, AsyncMock])
@pytest.mark.parametrize("spec", [None, dict, list, str, OSError, Client, open])
async def test_what_is_recorded_of_a_mock_does_not_touch_it(kind, spec):
    mock = kind(spec=spec)
    async with rt.Session(run_identifier="mocks") as session:
        await rt.call(give, mock, more=[mock], password=mock)
    await rt.Flow("Again", give, run_identifier="flow", if_exists="resume").ainvoke(mock)
    assert session.info.records[0].args == (mock,)
    assert mock.mock_calls == []
    assert mock.method_calls == []


def test_without_mocks_their_module_is_not_imported():
    code = "import railtracks as rt, sys; rt.call_sync(len, [object()]); assert 'unittest.mock' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


# ---- autospec


@pytest.mark.parametrize("node", [fetch, square, Client().get, Client().count], ids=lambda node: node.name)
@pytest.mark.parametrize("make", [create_autospec, lambda node: (AsyncMock if node.is_async else Mock)(spec=node)])
async def test_a_mock_of_a_node_compares_arguments_by_parameter(node, make):
    mock = make(node)
    name = "n" if node is square else "url"
    await rt.call(mock, "u")
    mock.assert_called_once_with(**{name: "u"})


@pytest.mark.parametrize("node", [fetch, square, Client().get, Client().count], ids=lambda node: node.name)
async def test_an_autospec_refuses_what_the_node_would_refuse(node):
    for args, kwargs in [((), {}), ((1, 2), {}), ((1,), {"bad": 4})]:
        with pytest.raises(TypeError):
            await rt.call(create_autospec(node), *args, **kwargs)


@pytest.mark.parametrize("name", ["get", "count"])
async def test_a_patched_method_gets_its_object(name):
    client = Client()
    with patch.object(Client, name, autospec=True, return_value="fake") as mock:
        assert await rt.call(getattr(client, name), "u") == "fake"
        with pytest.raises(TypeError):
            await rt.call(getattr(client, name), "u", "v")
    mock.assert_called_once_with(client, url="u")


async def test_a_patched_node_of_an_object_is_called():
    client = Client()
    with patch.object(client, "get", autospec=True, return_value="fake") as mock:
        assert await rt.call(page_of, client, "u") == "<fake>"
    mock.assert_awaited_once_with(url="u")


async def test_an_autospec_of_a_class_has_its_nodes_as_methods():
    client = create_autospec(Client)()
    client.get.return_value = "fake"
    assert await rt.call(page_of, client, "u") == "<fake>"
    client.get.assert_awaited_once_with(url="u")
    with pytest.raises(TypeError):
        await rt.call(client.get, "u", "v")


async def test_an_autospec_is_recorded_by_name_and_not_reused():
    async with rt.Session(run_identifier="mocks") as session:
        with patch(f"{__name__}.fetch", autospec=True, return_value="fake"):
            assert await rt.call(fetch, "u") == "fake"
    (record,) = session.info.records
    assert (record.name, record.node) == ("fetch", None)


def test_an_autospec_is_async_if_the_node_is():
    assert rt.function_node(create_autospec(fetch)).is_async
    assert not rt.function_node(create_autospec(square)).is_async
