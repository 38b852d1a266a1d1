"""The page of `make demo`: one types a prompt, and watches the picture come out of the noise.

Gradio draws it, from its own files and on this computer alone: nothing is asked for or told
elsewhere.
"""

import html
import os
import socket
from collections.abc import Iterator, Sequence

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is loaded

import gradio as gr  # noqa: E402

from t2i.apps.demo_drawing import (  # noqa: E402
    GUIDANCE,
    LONGEST,
    SEEDS,
    STEPS,
    WishError,
    drawn,
    picture_html,
    read_wish,
    words_html,
)
from t2i.runs.known_words import SCENE_EXAMPLES, remarks  # noqa: E402
from t2i.runs.text_to_image_recipes import GUIDANCE_SCALE, INFERENCE_STEPS  # noqa: E402
from t2i.show import ORANGE  # noqa: E402
from t2i.text_to_image import TextToImage  # noqa: E402

HOST = "127.0.0.1"
WELCOME = """# Words to picture
Type what you want to see. The model starts from pure noise, and guesses at each step anew which
picture your words mean."""
READING = """**Which word looked where.** A tile a word: the brighter a patch, the more it looked at
the word. All words share the looks of a patch; the number is the largest share a word ever got."""
SIDE = 320  # pixels of the picture on the page
EMPTY = '<div class="empty">Your picture appears here.</div>'
CSS = f"""
.gradio-container {{ max-width: 1180px !important; margin: 0 auto !important; }}
h1 {{ margin-bottom: 0 !important; }}
figure {{ margin: 0 !important; }}
.html-container {{ padding: 0 !important; }}
#remark:not(:has(.note)) {{ display: none; }}
.guess img, .words img {{ image-rendering: pixelated; margin: 0 !important; }}
.guess img, .empty {{ width: {SIDE}px; height: {SIDE}px; border-radius: 8px; }}
.guess figcaption {{ padding-top: 4px; }}
.guess small {{ opacity: .65; margin-left: .6em; }}
.empty {{ border: 2px dashed #8886; display: flex; align-items: center; justify-content: center; }}
.words {{ display: flex; flex-wrap: wrap; gap: 10px; }}
.words figure {{ width: 84px; text-align: center; font-size: 13px; overflow-wrap: anywhere; }}
.words img {{ width: 84px; height: 84px; border-radius: 4px; }}
.words small {{ display: block; opacity: .65; }}
.note {{ border-left: 4px solid {ORANGE}; padding: 6px 12px; background: {ORANGE}18; }}
"""


def free_slider(*arguments, **named) -> gr.Slider:
    """A slider that passes on whatever was typed beside it: the page itself says what is wrong.

    No subclass, because Gradio writes a file beside each module that has one.
    """
    slider = gr.Slider(*arguments, **named)
    slider.preprocess = lambda payload: payload
    return slider


def build(
    pipe: TextToImage,
    known: frozenset[str] = frozenset(),
    examples: Sequence[str] = SCENE_EXAMPLES,
) -> gr.Blocks:
    """The page that draws with a model.

    Args:
        pipe: the model.
        known: the words of the captions that it learnt from; empty: any word may be known.
        examples: prompts to try, which it can draw.
    """

    def draw(*told) -> Iterator[dict]:
        try:
            wish = read_wish(*told)
            yield {remark: _note(remarks(pipe, wish.prompt, known)), button: _button(busy=True)}
            for seen, number in drawn(pipe, wish):
                pictures = {picture: picture_html(seen, number, wish)}
                yield pictures | {words: words_html(seen, number)}
            stop = gr.update(maximum=max(2, number), value=number, interactive=number > 1)
            yield {film: (seen, wish), moment: stop, button: _button()}
        except WishError as error:
            yield {remark: _note(str(error))}
        except (RuntimeError, ValueError, OSError) as error:
            yield {remark: _note(f"That could not be drawn: {error}"), button: _button()}

    def show(recorded: tuple | None, number: float) -> tuple[str, str]:
        if recorded is None:
            return gr.skip(), gr.skip()
        seen, wish = recorded
        number = min(max(1, int(number or 1)), len(seen.steps))
        return picture_html(seen, number, wish), words_html(seen, number)

    with gr.Blocks(title="Words to picture", analytics_enabled=False, fill_width=True) as page:
        film = gr.State(None)
        gr.Markdown(WELCOME)
        with gr.Row():
            with gr.Column(scale=4, min_width=320):
                prompt = gr.Textbox(
                    label="Prompt",
                    placeholder=f"for example: {examples[0]}",
                    elem_id="prompt",
                    autofocus=True,
                    max_length=LONGEST + 1,
                )
                button = gr.Button("Draw", variant="primary", elem_id="draw")
                hint = "1 is off; the higher, the more your words count."
                guidance = free_slider(
                    *GUIDANCE,
                    GUIDANCE_SCALE,
                    step=0.5,
                    label="Guidance",
                    info=hint,
                    elem_id="guidance",
                )
                hint = "From noise to picture; few are fast and rough."
                steps = free_slider(
                    *STEPS, INFERENCE_STEPS, step=1, label="Steps", info=hint, elem_id="steps"
                )
                hint = f"Which noise to start from: {SEEDS[0]} to {SEEDS[1]:,}."
                seed = gr.Number(0, label="Seed", info=hint, elem_id="seed")
                gr.Examples([[text] for text in examples], prompt, label="Or try one of these")
            with gr.Column(scale=8, min_width=600):
                remark = gr.HTML(elem_id="remark")
                with gr.Row():
                    with gr.Column(scale=0, min_width=SIDE):
                        picture = gr.HTML(EMPTY, elem_id="picture")
                        moment = free_slider(
                            1,
                            2,
                            1,
                            step=1,
                            label="Look back at step",
                            interactive=False,
                            elem_id="moment",
                        )
                    with gr.Column(scale=1, min_width=260):
                        gr.Markdown(READING)
                        words = gr.HTML(elem_id="words")
        told = [prompt, guidance, steps, seed]
        shown = [remark, picture, words, moment, film, button]
        gr.on(
            [button.click, prompt.submit],
            draw,
            told,
            shown,
            show_progress="hidden",
            trigger_mode="multiple",  # "once" loses a press just after the last step
        )
        moment.input(
            show,
            [film, moment],
            [picture, words],
            show_progress="hidden",
            trigger_mode="always_last",
        )
    return page


def _note(text: str) -> str:
    """A remark as HTML; what was typed is in it, so nothing of it counts as a tag."""
    return f'<div class="note" role="status">{html.escape(text)}</div>' if text else ""


def _button(busy: bool = False) -> dict:
    """The button as it is, or as it is while a picture is being drawn."""
    return gr.update(value="Drawing …" if busy else "Draw", interactive=not busy)


def is_taken(port: int) -> bool:
    """Whether another program of this computer listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def serve(page: gr.Blocks, port: int | None, browser: bool) -> None:
    """Show the page on this computer, and on no other, until Ctrl-C.

    Args:
        page: of build.
        port: None: the first free one from 7860 on.
        browser: whether to open it.

    Raises:
        OSError: the port is taken.
    """
    if port is not None and is_taken(port):
        raise OSError(f"Port {port} is taken: give another one, or none, and a free one is found.")
    _, address, _ = page.launch(
        server_name=HOST,
        server_port=port,
        inbrowser=browser,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        quiet=True,
        css=CSS,
        footer_links=[],
        prevent_thread_lock=True,
    )
    print(f"The page is open at {address} (Ctrl-C ends it).", flush=True)
    page.block_thread()
