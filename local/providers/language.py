"""Stand-in for Pulumi's Python language host, so that plain `pulumi up` runs `__main__.py`.

It extends the SDK's own server for inline programs (`pulumi.automation._server`, a private module: the SDK is pinned,
and a test checks it) with the calls that the CLI makes to a real language host.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from local.errors import LocalError
from local.providers import sdk, sdk_waits
from local.providers.ending import Ending
from local.providers.program import __main__ as foreign

_MAX_MESSAGE = 400 * 1024 * 1024


class NoEnvironment(Exception):
    """The virtual environment that a program asks for is not there."""


def interpreter(info: language_pb2.ProgramInfo) -> Path:
    """The Python of a program or plugin: that of its `virtualenv`, else this one. Raises NoEnvironment."""
    option = dict(info.options).get("virtualenv")
    if not option:
        return Path(sys.executable)
    folder = Path(info.root_directory or info.program_directory) / str(option)
    if not (folder / "pyvenv.cfg").is_file():
        what = "is not a virtual environment" if folder.exists() else "does not exist"
        fix = f"make it with `python3 -m venv {folder}` and install the program's packages in it"
        raise NoEnvironment(f'runtime.options.virtualenv is "{option}", but {folder} {what}; {fix}')
    if folder.resolve() == Path(sys.prefix).resolve():
        return Path(sys.executable)
    return folder / "bin" / "python"


class Host(LanguageServer):
    """Runs the program of a project folder: in this process, or in that of the program's own virtual environment."""

    def __init__(self, engine_address: str) -> None:
        super().__init__(lambda: None)
        self._engine_address = engine_address
        self._processes: set[subprocess.Popen[bytes]] = set()

    def Handshake(self, request: Any, context: Any) -> language_pb2.LanguageHandshakeResponse:
        """Store the engine's address, which programs use for logging."""
        self._engine_address = request.engine_address or self._engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:
        """Return the SDK's version."""
        return plugin_pb2.PluginInfo(version=metadata.version("pulumi"))

    def GetProgramDependencies(self, request: Any, context: Any) -> language_pb2.GetProgramDependenciesResponse:
        """List the installed Pulumi distributions, for `pulumi about`."""
        found = [d for d in metadata.distributions() if d.name.lower().startswith("pulumi")]
        dependencies = [language_pb2.DependencyInfo(name=d.name, version=d.version) for d in found]
        return language_pb2.GetProgramDependenciesResponse(dependencies=dependencies)

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[language_pb2.InstallDependenciesResponse]:
        """Install a program's `requirements.txt`. Of a plugin nothing is installed: only its author knows from where.

        A missing environment is an error.
        """
        try:
            python = interpreter(request.info)
            folder = Path(request.info.root_directory or request.info.program_directory)
            if not request.is_plugin and (folder / sdk.REQUIREMENTS).is_file():
                sdk.require_environment(request.info)
                yield from sdk.install(python, folder)
        except (NoEnvironment, LocalError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    def GeneratePackage(self, request: Any, context: grpc.ServicerContext) -> language_pb2.GeneratePackageResponse:
        """Write the Python SDK of a package, for `pulumi package gen-sdk` and `pulumi package add`."""
        try:
            return sdk.generate(request)
        except LocalError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    def Link(self, request: Any, context: grpc.ServicerContext) -> language_pb2.LinkResponse:
        """Add generated SDKs to a program's requirements, for `pulumi package add`."""
        try:
            interpreter(request.info)
            return sdk.link(request)
        except (NoEnvironment, LocalError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    def RuntimeOptionsPrompts(self, request: Any, context: Any) -> language_pb2.RuntimeOptionsResponse:
        """Return no prompts."""
        return language_pb2.RuntimeOptionsResponse()

    def Cancel(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Do nothing: the program ends together with the engine."""
        return empty_pb2.Empty()

    def RunPlugin(self, request: Any, context: grpc.ServicerContext) -> Iterator[language_pb2.RunPluginResponse]:
        """Run a Python plugin, such as a policy pack, and forward its output until it ends."""
        folder = Path(request.info.program_directory)
        try:
            python = interpreter(request.info)
        except NoEnvironment as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        process = subprocess.Popen(
            [str(python), str(folder / "__main__.py"), *request.args],
            cwd=request.pwd or folder,
            env=dict(entry.split("=", 1) for entry in request.env) or None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        context.add_callback(process.terminate)  # the engine has ended the call
        for name, data in sdk.output(process):
            yield language_pb2.RunPluginResponse(**{name: data})
        yield language_pb2.RunPluginResponse(exitcode=process.wait())

    def Run(self, request: Any, context: Any) -> language_pb2.RunResponse:
        """Run the project's `__main__.py` (or the entry point that it names)."""
        folder = Path(request.info.program_directory or request.pwd)
        entry = folder / (request.info.entry_point or ".")
        script = entry / "__main__.py" if entry.is_dir() else entry
        del request.args[:]
        request.args.append(self._engine_address)
        try:
            python = interpreter(request.info)
        except NoEnvironment as error:
            return language_pb2.RunResponse(error=str(error))
        if python != Path(sys.executable):
            return self._run_in(python, script, folder, request)

        def program() -> None:
            os.chdir(folder)
            sys.path.insert(0, str(script.parent))
            sys.argv = [str(script)]
            runpy.run_path(str(script), run_name="__main__")

        self.program = program
        return super().Run(request, context)

    def _run_in(self, python: Path, script: Path, folder: Path, request: Any) -> language_pb2.RunResponse:
        process = subprocess.Popen(
            [str(python), foreign.__file__, str(script)],
            cwd=folder,
            env={**os.environ, "VIRTUAL_ENV": str(python.parents[1])},
            stdin=subprocess.PIPE,
        )
        self._processes.add(process)
        with contextlib.suppress(BrokenPipeError):  # it has ended; its status says how
            process.communicate(request.SerializeToString())
        self._processes.discard(process)
        if process.returncode in (0, foreign.SHOWN):
            return language_pb2.RunResponse(bail=process.returncode != 0)
        return language_pb2.RunResponse(error=f"the program's process ended with status {process.returncode}")

    def end_programs(self) -> None:
        """End the programs in processes of their own; their engine is gone."""
        for process in tuple(self._processes):
            process.terminate()


def main() -> None:
    """Serve the CLI until it ends this process."""
    address = next((arg for arg in reversed(sys.argv[1:]) if ":" in arg and not arg.startswith("-")), "")
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.max_send_message_length", _MAX_MESSAGE),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=options)
    host = Host(address)
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    ended = Ending()
    ended.on_signals()
    ended.with_parent()
    sdk_waits.shorten()
    server.start()
    print(port, flush=True)
    ended.wait()
    host.end_programs()
    server.stop(0).wait()
    # Exit explicitly: on return, the interpreter would wait for a program whose engine has ended.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
