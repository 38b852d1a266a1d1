# `make` lists the targets. Every target that needs the environment sets it up by itself, once;
# VENV=PATH on the command line uses an existing one as it is (VENV=system: the Python on the PATH).

# The first Python 3.11 or newer; if there is none, python3, which then says what is wrong.
CANDIDATES = $(if $(VENV),"$(VENV)/bin/python" "$(VENV)") python3 python3.13 python3.12 python3.11 \
	python3.14 python .venv/bin/python
PYTHON = $(shell for p in $(CANDIDATES); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$p"; exit; }; done; echo python3)
RUN = "$(PYTHON)" autograder/setup_env.py run
COURSE = $(RUN) -m autograder
NEEDS_LESSON = @test -n "$(lesson)" || { echo "Which lesson? For example: make $@ lesson=1" >&2; exit 2; }

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help lab grade progress mine doctor setup sample demo stable-diffusion train evaluate \
	solve build catalogue visible course-check test test-all format lint clean clean-venv \
	train-classifier train-ddpm train-guidance train-scene-judge train-scenes train-clip \
	train-clip-scenes train-vae race measure measure-samplers measure-headline measure-guidance measure-scenes \
	measure-clip measure-clip-scenes measure-vae measure-dit compare-batch-sizes study-vae \
	study-latents bench bench-sd bench-scenes time-trainings time-notebooks

help: ## list the targets
	@echo "make TARGET; the environment in .venv is set up on first use. Targets:"
	@awk -F ': ## ' '/^## / { print "\n" substr($$0, 4) ":" } \
		/^[a-z-]+: ## / { printf "  %-20s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

## To learn

lab: ## open JupyterLab on a lesson: lesson=1 [options="--no-browser --port 8889"]
	$(NEEDS_LESSON)
	@number="$(lesson)"; number="$${number#0}"; \
		case "$$number" in appendix) ;; *) number="$$(printf '%02d' "$$number" 2>/dev/null)" ;; esac; \
		set -- lessons/"$$number"_*/*.ipynb; test -e "$$1" || \
		{ echo "There are lessons 1 to 10, and lesson=appendix; $(lesson) is none of them." >&2; exit 2; }; \
		test "$$(id -u 2>/dev/null)" = 0 && root=--allow-root || root=; \
		$(RUN) -m jupyterlab $$root "--LabApp.default_url=/lab/tree/$$1" $(options)

grade: ## grade a lesson: lesson=1 [only=EXERCISE] [notebook=FILE] [json=FILE]
	$(NEEDS_LESSON)
	@$(COURSE) grade "$(lesson)" $(if $(notebook),--notebook "$(notebook)") \
		$(if $(json),--json "$(json)") $(if $(only),--only "$(only)")

progress: ## show all ten lessons with your points
	@$(COURSE) progress

mine: ## assemble your own t2i of what passed; mine=yes runs other targets on it
	@$(COURSE) mine

doctor: ## check this machine's set-up and say how to mend it
	@"$(PYTHON)" autograder/setup_env.py try autograder/doctor.py

setup: ## set up the environment and do nothing else
	@"$(PYTHON)" autograder/setup_env.py

## To draw with the models, and to train one on your own pictures

# "$$prompt" and not "$(prompt)": the shell would read quotes, backquotes and dollars in a prompt.
sample: ## draw what you type: prompt="a seven" out=7.png [film=1] [image=6.png]
	@test -n "$${prompt+given}" && test -n "$(out)" || \
		{ echo "What, and where to? For example: make sample prompt=\"a red seven\" out=seven.png" >&2; exit 2; }
	@$(RUN) -m t2i.apps.sample "$$prompt" --out "$(out)" --seed "$(or $(seed),0)" $(if $(film),--film) \
		$(if $(image),--image "$(image)") $(if $(strength),--strength "$(strength)") \
		$(if $(model),--model "$(model)")

demo: ## open a page that draws what you type, step by step [model=DIR] [port=7860]
	@"$(PYTHON)" autograder/setup_env.py demo -m t2i.apps.demo $(if $(model),--model "$(model)") \
		$(if $(port),--port "$(port)")

stable-diffusion: ## draw with Stable Diffusion's weights: model=FOLDER prompt="a fox" out=fox.png
	@test -n "$(model)" && test -n "$${prompt+given}" && test -n "$(out)" || \
		{ echo "Say model=FOLDER (or a hub name), prompt=\"a red fox\" and out=fox.png" >&2; exit 2; }
	@$(RUN) -m t2i.pretrained.sd_sample "$$prompt" --model "$(model)" --out "$(out)" \
		--seed "$(or $(seed),0)" $(if $(steps),--steps "$(steps)") $(if $(image),--image "$(image)") \
		$(if $(strength),--strength "$(strength)") $(if $(size),--size $(size)) \
		$(if $(negative),--negative "$$negative")

train: ## train lesson 10's parts, or go on: [tier=cpu] [data=PICTURES] [out=DIR]
	@$(RUN) -m t2i.runs.text_to_image_runs train --tier "$(or $(tier),cpu)" \
		$(if $(data),--data "$(data)") $(if $(out),--out "$(out)")

evaluate: ## measure lesson 10's model, or yours: [count=1000] [data=DIR model=DIR clip=F]
	@$(RUN) -m t2i.runs.text_to_image_eval --count "$(or $(count),1000)" \
		$(if $(data),--data "$(data)") $(if $(model),--model "$(model)") $(if $(clip),--clip "$(clip)")

## To teach, and to change the course

solve: ## write a lesson's solved notebook, for instructors: lesson=1 out=FILE
	$(NEEDS_LESSON)
	@test -n "$(out)" || { echo "Where to? For example: make solve lesson=$(lesson) out=solved.ipynb" >&2; exit 2; }
	@$(COURSE) solve "$(lesson)" --out "$(out)"

build: ## build the student notebooks from the lessons' text and the package
	@$(COURSE) build

catalogue: ## prove the grader on a lesson's wrong and right answers: lesson=1
	$(NEEDS_LESSON)
	@$(COURSE) catalogue "$(lesson)"

visible: ## which wrong answers pass the checks that a learner can read: lesson=1
	$(NEEDS_LESSON)
	@$(COURSE) visible "$(lesson)"

course-check: ## run nbgrader's whole cycle on a scratch course [lesson=1]
	@$(COURSE) course-check $(lesson)

test: ## run every test and check of the repository [jobs=2]
	@$(RUN) -m autograder.selftest $(if $(jobs),--jobs "$(jobs)")

test-all: ## run the thorough tests as well (an hour) [jobs=2]
	@$(RUN) -m autograder.selftest --all $(if $(jobs),--jobs "$(jobs)")

format: ## format the code and notebooks
	@$(RUN) -m ruff format .

lint: ## check style and formatting, change nothing
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check .

clean: ## remove caches and what was built; your work, data and .venv stay
	@rm -rf build .pytest_cache .ruff_cache *.egg-info data/.mnist-*
	@find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
		-type d -exec rm -rf {} +

clean-venv: ## remove .venv; the next make sets it up anew
	@rm -rf .venv

## To train the lessons' models again

train-classifier: ## train the frozen MNIST classifier and judge (minutes)
	@$(RUN) -m t2i.metrics train

train-ddpm: ## train lesson 3's model: [tier=cpu], or long: lesson 4's, an hour
	@$(RUN) -m t2i.runs.recipes train --tier "$(or $(tier),cpu)"

train-guidance: ## train lesson 5's model: [tier=cpu]
	@$(RUN) -m t2i.runs.class_recipes train --tier "$(or $(tier),cpu)"

train-scene-judge: ## train and check a judge of the captioned scenes: [side=32]
	@$(RUN) -m t2i.judging.scene_judge train --side "$(or $(side),32)"

train-scenes: ## train lesson 6's model: [tier=cpu]
	@$(RUN) -m t2i.runs.scene_recipes train --tier "$(or $(tier),cpu)"

train-clip: ## train lesson 7's CLIP: [tier=cpu]
	@$(RUN) -m t2i.runs.clip_recipes train --tier "$(or $(tier),cpu)"

train-clip-scenes: ## train lesson 6's model with CLIP as its reader: [tier=cpu]
	@$(RUN) -m t2i.runs.clip_scene_recipes train --tier "$(or $(tier),cpu)"

train-vae: ## train lesson 8's autoencoder: [tier=cpu]
	@$(RUN) -m t2i.runs.vae_recipes train --tier "$(or $(tier),cpu)"

race: ## train lesson 10's model by the clock, on a GPU (minutes)
	@$(RUN) -m t2i.runs.race

## To measure again what the lessons quote

measure: ## measure 4,000 samples of lesson 3 (an hour): [tier=cpu]
	@$(RUN) -m t2i.runs.recipes evaluate --tier "$(or $(tier),cpu)"

measure-samplers: ## measure lesson 4's samplers (hours); goes on where it stopped [count=1000]
	@$(RUN) -m t2i.runs.sampler_runs chart $(if $(count),--count "$(count)")

measure-headline: ## measure lesson 4's headline (hours); goes on where it stopped [long=yes]
	@$(RUN) -m t2i.runs.sampler_runs headline $(if $(long),--long) $(if $(count),--count "$(count)")

measure-guidance: ## measure lesson 5's samples at each guidance scale: [tier=cpu]
	@$(RUN) -m t2i.runs.class_recipes evaluate --tier "$(or $(tier),cpu)"

measure-scenes: ## count the captions that lesson 6's pictures satisfy: [tier=cpu]
	@$(RUN) -m t2i.runs.scene_recipes evaluate --tier "$(or $(tier),cpu)"

measure-clip: ## measure what lesson 7's CLIP recognises and finds: [tier=cpu]
	@$(RUN) -m t2i.runs.clip_recipes evaluate --tier "$(or $(tier),cpu)"

measure-clip-scenes: ## count how both readers paint words that they never saw: [tier=cpu]
	@$(RUN) -m t2i.runs.clip_scene_recipes evaluate --tier "$(or $(tier),cpu)"

measure-vae: ## measure what lesson 8's autoencoder brings back: [tier=cpu]
	@$(RUN) -m t2i.runs.vae_recipes evaluate --tier "$(or $(tier),cpu)"

measure-dit: ## train and measure lesson 9's UNets and DiTs (an hour): [tier=cpu]
	@$(RUN) -m t2i.runs.dit_runs --tier "$(or $(tier),cpu)"

compare-batch-sizes: ## train CLIP for a short time with three batch sizes (minutes)
	@$(RUN) -m t2i.runs.clip_runs

study-vae: ## compare short trainings: compressions, KL weights, cost (minutes)
	@$(RUN) -m t2i.runs.vae_studies compare && $(RUN) -m t2i.runs.vae_studies cost
	@$(RUN) -m t2i.runs.vae_studies whole

study-latents: ## compare diffusion in scaled and unscaled latents (minutes)
	@$(RUN) -m t2i.runs.vae_studies diffuse

bench: ## time our networks beside diffusers': [only=dit] [budget=200] [json=FILE]
	@$(RUN) -m t2i.speed.bench $(if $(only),--only $(only)) $(if $(budget),--budget "$(budget)") \
		$(if $(json),--json "$(json)")

bench-sd: ## time and memory beside diffusers, true sizes [model=FOLDER] [json=FILE]
	@$(RUN) -m t2i.pretrained.sd_bench $(if $(model),--model "$(model)") $(if $(json),--json "$(json)")

bench-scenes: ## time the painting of captioned scenes
	@$(RUN) -m t2i.world.scene_sheet bench

time-trainings: ## time the CPU trainings of lessons 3 and 5 to 8, weights stay (an hour)
	@for one in recipes class_recipes scene_recipes clip_recipes clip_scene_recipes vae_recipes; do \
		$(RUN) -m t2i.runs.$$one time || exit 1; done

time-notebooks: ## time the solved notebooks: [lesson=1] [tier=cpu] [grades=no] [keep=DIR]
	@$(COURSE) time $(if $(lesson),"$(lesson)") --tier "$(or $(tier),cpu)" \
		$(if $(filter no,$(grades)),--no-grades) $(if $(keep),--keep "$(keep)")
