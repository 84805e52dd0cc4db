"""The examples of the page on sessions. Each section stands on its own; the tests run all of them."""

import anyio

import railtracks as rt


# --8<-- [start: empty_session_dec]
@rt.function_node
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@rt.session
async def greet_alice():
    return await rt.call(greet, name="Alice")


async def main():
    result, session = await greet_alice()
    print(result)  # Hello, Alice!


# --8<-- [end: empty_session_dec]


# --8<-- [start: configured_session_dec]
@rt.session(
    timeout=30,  # seconds, for each top-level call
    context={"user_id": "123"},  # what rt.context.get("user_id") gives to the nodes
    logging_setting="DEBUG",  # how much of it to log
    save_state=True,  # save what happened to a file
    name="my-unique-run",  # ... which is .railtracks/my-unique-run.json
)
async def greet_several():
    return [await rt.call(greet, name=name) for name in ("Bob", "Charlie")]


async def configured():
    result, session = await greet_several()
    print(result)  # ['Hello, Bob!', 'Hello, Charlie!']


# --8<-- [end: configured_session_dec]


# --8<-- [start: multiple_sessions_dec]
@rt.function_node
async def farewell(name: str) -> str:
    return f"Bye, {name}!"


@rt.session(context={"name": "Diana"})
async def first_workflow():
    return await rt.call(greet, rt.context.get("name"))


@rt.session(context={"name": "Robert"})
async def second_workflow():
    return await rt.call(farewell, rt.context.get("name"))


async def several():
    first, first_session = await first_workflow()
    second, second_session = await second_workflow()
    print(first, second)  # Hello, Diana! Bye, Robert!
    print(first_session.identifier != second_session.identifier)  # True


# --8<-- [end: multiple_sessions_dec]


# --8<-- [start: configured_session_cm]
async def context_manager():
    async with rt.Session(
        timeout=30,
        context={"user_id": "123"},
        logging_setting="QUIET",
        run_identifier="my-unique-run",
    ) as session:
        print(await rt.call(greet, "Bob"))  # Hello, Bob!
        print(await rt.call(greet, "Charlie"))  # Hello, Charlie!
    print(session.info.answer)  # ['Hello, Bob!', 'Hello, Charlie!']


# --8<-- [end: configured_session_cm]


# --8<-- [start: error_handling]
@rt.function_node
async def divide(a: float, b: float) -> float:
    return a / b


@rt.session(end_on_error=True)
async def safe_workflow():
    try:
        return await rt.call(divide, 1, 0)
    except ZeroDivisionError as error:
        return f"caught: {error}"


async def error_handling():
    result, session = await safe_workflow()
    print(result)  # caught: division by zero
    print(session.info.answer)  # Failure(exception=ZeroDivisionError('division by zero'))


# --8<-- [end: error_handling]


# --8<-- [start: api_example]
@rt.function_node
async def fetch(path: str) -> str:
    region = rt.context.get("region")
    return f"{path} from {region}"  # with the key in rt.context.get("api_key")


@rt.session(context={"api_key": "secret", "region": "us-west"})
async def api_workflow():
    return await rt.call_batch(fetch, ["users", "orders"], limit=10)


async def api_example():
    result, session = await api_workflow()
    print(result)  # ['users from us-west', 'orders from us-west']


# --8<-- [end: api_example]


# --8<-- [start: tracked]
@rt.session(name="daily-report-v1", save_state=True)
async def daily_report():
    return await rt.call(greet, "reader")


async def tracked():
    result, session = await daily_report()
    print(f"{session._identifier}: {result}")  # daily-report-v1: Hello, reader!
    info = rt.ExecutionInfo.load(".railtracks/daily-report-v1.json")
    print(info.answer)  # Hello, reader!


# --8<-- [end: tracked]


async def everything():
    for example in (main, configured, several, context_manager, error_handling, api_example, tracked):
        await example()


if __name__ == "__main__":
    anyio.run(everything)
