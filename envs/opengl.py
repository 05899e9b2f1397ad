"""Which OpenGL backend MuJoCo renders with on this machine, decided once, before dm_control is imported.

dm_control and mujoco read `MUJOCO_GL` while they are imported, and fail to import where the backend it names does not
work. State observations need no OpenGL, so a backend is only named after it was seen working.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import os
import sys
from collections.abc import Iterator

BACKENDS = ("", "egl", "osmesa", "glfw", "off", "disable", "disabled", "false", "0")
_PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT
_MAXIMUM_DEVICES = 16


class RenderingError(RuntimeError):
    """Frames are asked for on a machine that cannot draw them."""


MISSING = (
    "Rendering needs OpenGL, and either MUJOCO_GL=disabled was set or neither EGL nor OSMesa works on this machine: "
    "unset MUJOCO_GL and install the Debian packages libegl1 libegl-mesa0 libgl1-mesa-dri."
)


@functools.cache
def choose_backend() -> None:
    """Set `MUJOCO_GL` to a backend that works here: the one asked for, else EGL, else OSMesa, else "disabled".

    With a display and nothing asked for, the choice is left to the libraries, which then use a window system; without one,
    a window system that is asked for is not there.

    Raises:
        RenderingError: something is asked for that is no backend.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower()
    if asked not in BACKENDS:
        raise RenderingError(f"MUJOCO_GL={asked} names no way to draw: unset it, or set egl, osmesa, glfw or disabled.")
    if asked:
        os.environ["MUJOCO_GL"] = asked  # dm_control compares with small letters
    if asked == "glfw" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        asked = ""
    if (asked == "egl" and _egl_works()) or (asked == "osmesa" and _osmesa_works()):
        return
    if asked not in ("", "egl", "osmesa") or (not asked and os.environ.get("DISPLAY")):
        return
    if _egl_works():
        os.environ["MUJOCO_GL"] = "egl"
    elif _osmesa_works():
        os.environ["MUJOCO_GL"] = "osmesa"
    else:
        os.environ["MUJOCO_GL"] = "disabled"


def keep_windows_away() -> None:
    """Have pygame, which draws Gymnasium's classic tasks, look for no window system where there is none."""
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def draw_with_one_thread() -> None:
    """Have Mesa's llvmpipe draw with one thread in this process, unless told otherwise; before OpenGL is first used.

    It takes one for each core, and processes side by side then stand in each other's way: two draw hardly more than one does.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector away while something is drawn.

    It may meet an environment that was dropped without being closed, and freeing its OpenGL context takes the current one away:
    mujoco then fails with "Default framebuffer is not complete", or draws nothing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def use_backend_in(renderer: type) -> None:
    """Have ``mujoco.Renderer`` draw with the backend that was chosen here.

    It has another where a library imported mujoco before, as torchrl does: mujoco reads `MUJOCO_GL` while it is imported, and
    without it takes windows.
    """
    backend = os.environ.get("MUJOCO_GL", "").lower()
    if backend in ("egl", "osmesa"):
        context = importlib.import_module(f"mujoco.{backend}").GLContext
        sys.modules[renderer.__module__].gl_context.GLContext = context


def rendering_works() -> bool:
    """Whether dm_control, once imported, found a backend to render with."""
    from dm_control import _render

    return _render.BACKEND not in (None, *_render.constants.NO_RENDERER)


def _osmesa_works() -> bool:
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def _egl_works() -> bool:
    """Whether some EGL device of this machine can be initialised, as dm_control will try while it is imported."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    query_devices = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    get_display = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query_devices or not get_display:
        return False
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    devices = (pointer * _MAXIMUM_DEVICES)()
    count = integer()
    if not ctypes.CFUNCTYPE(ctypes.c_uint, integer, pointer, pointer)(query_devices)(
        _MAXIMUM_DEVICES, ctypes.cast(devices, pointer), ctypes.cast(ctypes.byref(count), pointer)
    ):
        return False
    open_display = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(get_display)
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    for device in devices[: count.value]:
        display = open_display(_PLATFORM_DEVICE, device, None)
        if display and egl.eglInitialize(display, None, None):
            # Not terminated again: the same display may be in use by another library of this process.
            return True
    return False
