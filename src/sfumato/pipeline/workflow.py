"""What a call asks for beside words: a picture to begin from, a mask, how much of it is to change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, cast, get_args

from sfumato.errors import OptionError, RecipeError, SizeError, UnsupportedError
from sfumato.pipeline.masks import PasteBack, blurred, region_of
from sfumato.pipeline.outpainting import check_margins, extended
from sfumato.pipeline.pictures import Box, Pictures, check_counts
from sfumato.pipeline.request import check_count, check_number, check_size, whole
from sfumato.pipeline.resizing import RESIZE_MODES, ResizeMode, resized
from sfumato.pipeline.upscaling import Enlargement
from sfumato.recipe import Recipe, WorkflowName
from sfumato.variants import ENLARGED, INSTRUCTED, MASKED, Family

Content: TypeAlias = Literal["original", "fill", "noise", "nothing"]
"""What lies under the mask at first: the picture itself, its blurred surroundings, noise, or latents of zeros."""

BegunAs: TypeAlias = Literal["diffusers", "a1111", "a1111_exact"]
"""How a picture is begun from: as diffusers does it, or as the web UI does, or that with as many steps as are said, which is its hires fix."""

STRENGTH = 0.8
"""How much of a picture changes where nothing is said, as in diffusers; 1 under a mask."""

IMAGE_GUIDANCE = 1.5
"""Source: Brooks et al. 2023, arXiv:2211.09800, section 3.2."""

_PICTURES = ("image", "mask_image", "depth_map")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Asked:
    """The options of a call for pictures, as they were given; None is not given.

    image                  what to begin from: pictures, or latents
    strength               how much of it is to change: the share of the steps that are taken, from 0 to 1
    begun_as               whose steps a strength leaves, and whose noise is laid on the picture: see `BegunAs` and `levels_of`
    resize_mode            what becomes of a picture of other proportions
    mask_image             white where to paint anew
    mask_blur              radius in pixels by which the mask's edge is softened
    soft_mask              whether grey is painted in part; else it is black or white
    mask_content           what lies under the mask at first
    padding_mask_crop      paint only the masked part, with so many pixels around it, at the full size, and paste it back
    extend                 paint margins of so many pixels around the picture: left, top, right, bottom
    paste_back             whether the picture is laid back around what was painted
    image_guidance_scale   how closely an edited picture follows the one it was made from
    noise_level            how noisy a picture is made before it is enlarged
    depth_map              how near things are: brighter is nearer
    denoising_start, _end  the share of the noise schedule that is left to another model, before and after
    among                  how many pictures there were in the call that a recipe is of
    """

    image: Any = None
    strength: Any = None
    begun_as: Any = None
    resize_mode: Any = None
    mask_image: Any = None
    mask_blur: Any = None
    soft_mask: Any = None
    mask_content: Any = None
    padding_mask_crop: Any = None
    extend: Any = None
    paste_back: Any = None
    image_guidance_scale: Any = None
    noise_level: Any = None
    depth_map: Any = None
    denoising_start: Any = None
    denoising_end: Any = None
    among: int | None = None

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> "Asked":
        """The options for pictures, taken out of all of a call's."""
        return cls(**{option.name: options.pop(option.name) for option in fields(cls) if option.name in options})

    def said(self) -> dict[str, Any]:
        """The options that were given, but for the pictures."""
        values = {
            option.name: getattr(self, option.name)
            for option in fields(self)
            if option.name not in (*_PICTURES, "among")
        }
        return {name: _json(value) for name, value in values.items() if value is not None}

    def size(
        self, height: Any, width: Any, usual: tuple[int, int], vae_scale: int, enlargement: Enlargement
    ) -> tuple[Any, Any]:
        """Height and width to draw: those given, or the picture's, enlarged and cut to what can be drawn, or `usual`. Raises OptionError."""
        if self.image is None or self.padding_mask_crop is not None:
            own = usual
        else:
            pictures = Pictures.of("image", self.image)
            multiple = enlargement.multiple
            scale = enlargement.times * (vae_scale if pictures.is_latent() else 1)
            across, down = pictures.size
            if self.extend is not None:
                left, top, right, bottom = check_margins(self.extend)
                across, down = across + left + right, down + top + bottom
                check_size(down, across, vae_scale)  # cut or stretched, no pixel would stay as it is
            own = tuple(side * scale // multiple * multiple for side in (down, across))
            if 0 in own:
                raise SizeError(
                    f"image is {pictures.size[0]}x{pictures.size[1]}; it must have {-(-multiple // enlargement.times)} pixels a side at least"
                )
        return own[0] if height is None else height, own[1] if width is None else width

    def checked(
        self, family: Family, height: int, width: int, images: int, enlargement: Enlargement
    ) -> "Workflow | None":
        """What is asked for, for so many images of a size; None for a picture from words alone.

        Raises UnsupportedError for a picture that the family needs and has not got, or can't take; OptionError for what can't be, or would
        do nothing.
        """
        mode = _one_of(
            "resize_mode", "resize" if self.resize_mode in (None, "default") else self.resize_mode, RESIZE_MODES
        )
        image = None if self.image is None else Pictures.of("image", self.image)
        mask = None if self.mask_image is None else Pictures.of("mask_image", self.mask_image, channels=1)
        given = image, mask
        if self.extend is not None:
            if image is None or mask is not None:
                raise OptionError(
                    "extend paints around an image, and makes its own mask; pass image=… and no mask_image"
                )
            image, mask = extended(image, check_margins(self.extend))
        depth = None if self.depth_map is None else Pictures.of("depth_map", self.depth_map, channels=1)
        check_counts([("image", image), ("mask_image", mask), ("depth_map", depth)], images)
        start, end = (_share(name, getattr(self, name)) for name in ("denoising_start", "denoising_end"))
        name = self._name(family, image, mask, depth)
        self._check_of_use(name, image, mask)
        if self.noise_level is not None and enlargement.noise is None:
            raise UnsupportedError(
                f"models of {family.title} make no picture noisy before they read it; leave out noise_level"
            )
        if name == "upscale" and (start is not None or end is not None):
            raise OptionError(
                "a picture is enlarged by one model from beginning to end; leave out denoising_start and denoising_end"
            )
        if name == "txt2img" and start is None and end is None:
            return None
        if mode == "latent" and name not in ("img2img", "depth"):
            raise OptionError(
                'resize_mode="latent" stretches what an image begins from; leave it out with a mask or an instruction'
            )
        if start is not None and end is not None and start >= end:
            raise OptionError(f"denoising_start {start} must be less than denoising_end {end}")
        level = None if enlargement.noise is None else enlargement.level(self.noise_level)
        strength = check_number("strength", self._strength(name), least=0.0, most=1.0)
        if name == "txt2img" and image is None and (start is not None):
            raise OptionError("denoising_start needs the latents that another model has begun: pass image=latents")
        radius = check_number("mask_blur", self.mask_blur or 0.0, least=0.0, most=1024.0)
        box, paste = None, None
        if mask is not None and image is not None:
            box, mask, paste = self._pasting(image, mask, radius, width, height, mode)
        return Workflow(
            name=name,
            image=image,
            mask=mask,
            depth=depth,
            strength=strength,
            begun_as=cast("BegunAs", _one_of("begun_as", self.begun_as or "diffusers", get_args(BegunAs))),
            mode="fill" if box is not None else cast("ResizeMode", mode),
            box=box,
            soft=bool(self.soft_mask),
            content=cast("Content", _one_of("mask_content", self.mask_content or "original", get_args(Content))),
            paste=paste,
            image_guidance=check_number(
                "image_guidance_scale",
                IMAGE_GUIDANCE if self.image_guidance_scale is None else self.image_guidance_scale,
                least=0.0,
            ),
            denoising=(start, end),
            enlargement=enlargement,
            noise_level=level,
            said=self.said() | ({} if level is None else {"noise_level": level}),
            among=self.among,
            pictures={
                role: pictures
                for role, pictures in (("image", given[0]), ("mask_image", given[1]), ("depth_map", depth))
                if pictures is not None
            },
        )

    def _check_of_use(self, name: WorkflowName, image: Pictures | None, mask: Pictures | None) -> None:
        """Raise OptionError for an option that would do nothing, for want of what it is about."""
        of_mask = {
            "mask_blur": self.mask_blur, "soft_mask": self.soft_mask, "paste_back": self.paste_back,
            "padding_mask_crop": None if self.padding_mask_crop is None else True,
            "mask_content": None if self.mask_content == "original" else self.mask_content,
        }  # fmt: skip
        resized = None if self.resize_mode in ("default", "resize") else self.resize_mode
        of_image = {"resize_mode": resized, "begun_as": self.begun_as}
        for options, absent, missing in (
            (of_mask, mask is None, "mask_image=…"),
            (of_image, image is None, "image=…"),
        ):
            if absent and (idle := [option for option, value in options.items() if value]):
                raise OptionError(f"{idle[0]} does nothing without {missing}; pass that as well, or leave it out")
        if self.image_guidance_scale is not None and name != "instruct":
            raise OptionError(
                "image_guidance_scale is for models that edit a picture by instruction, and this is none; leave it out"
            )

    def _strength(self, name: WorkflowName) -> Any:
        if self.strength is not None:
            if name in ("txt2img", "instruct", "upscale"):
                raise OptionError(
                    "strength says how much of an image is to change, and here the picture does not begin from one; leave it out"
                )
            return self.strength
        return STRENGTH if name in ("img2img", "depth") else 1.0

    def _name(
        self, family: Family, image: Pictures | None, mask: Pictures | None, depth: Pictures | None
    ) -> WorkflowName:
        """Which workflow this is, on a model of the family. Raises UnsupportedError, OptionError."""
        given = {"image": image, "mask_image": mask, "depth_map": depth}
        asked: WorkflowName = "txt2img" if image is None else "img2img" if mask is None else "inpaint"
        needed: dict[str, tuple[WorkflowName, tuple[str, ...]]] = {
            MASKED: ("inpaint", ("image", "mask_image")),
            INSTRUCTED: ("instruct", ("image",)),
            ENLARGED: ("upscale", ("image",)),
        }
        if family.name == "sd2-depth":
            asked, wanted = "depth", ("image", "depth_map")
        elif family.needs in needed:
            asked, wanted = needed[family.needs]
        else:
            wanted = ("image",) if mask is not None else ()
        if absent := [name for name in wanted if given[name] is None]:
            of = (
                f"this model is of {family.title}, which draws from a prompt and {family.needs}"
                if family.needs
                else "a mask is of an image"
            )
            raise UnsupportedError(f"{of}; pass {' and '.join(f'{name}=…' for name in absent)}")
        takes = {
            "img2img": ("image",),
            "inpaint": ("image", "mask_image"),
            "instruct": ("image",),
            "depth": ("image", "depth_map"),
            "upscale": ("image",),
        }
        if extra := [name for name, value in given.items() if value is not None and name not in takes.get(asked, ())]:
            raise UnsupportedError(f"models of {family.title} take no {extra[0]}; leave it out")
        takes_latents = asked == "img2img" or family.make == "latent-upscaler"
        if image is not None and image.is_latent() and not takes_latents:
            raise OptionError("image must hold pixels here, not latents")
        return asked

    def _pasting(
        self, image: Pictures, mask: Pictures, radius: float, width: int, height: int, mode: str
    ) -> tuple[Box | None, Pictures, PasteBack | None]:
        """The part to paint, the softened mask, and what lays the rest back."""
        pastes = self.extend is not None if self.paste_back is None else bool(self.paste_back)
        grey = mask.as_images() if radius or self.padding_mask_crop is not None or pastes else ()
        grey = tuple(blurred(one, radius) for one in grey)
        mask = Pictures(images=grey) if radius else mask
        if self.padding_mask_crop is None:
            if not pastes:
                return None, mask, None
            drawn = [resized(one, width, height, cast("ResizeMode", mode)) for one in image.as_images()]
            masks = [resized(one, width, height, cast("ResizeMode", mode)) for one in grey]
            return None, mask, PasteBack(originals=drawn, masks=masks)
        padding = check_count("padding_mask_crop", self.padding_mask_crop, least=0, most=1 << 20)
        if image.tensor is not None or mask.tensor is not None or len(image) > 1 or len(mask) > 1:
            raise OptionError("padding_mask_crop takes one image and one mask_image, both as pictures")
        if image.size != mask.size:
            raise OptionError(
                f"with padding_mask_crop, image and mask_image must have one size, not {image.size} and {mask.size}"
            )
        box = region_of(grey[0], width, height, padding)
        return box, mask, PasteBack(originals=image.images, masks=grey, box=box)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Workflow:
    """What a call asks for beside words, checked. The fields are those of `Asked`, and:

    name       what the recipe calls it
    box        the part of the picture that is painted; None for all of it
    paste      lays the rest back; None where it isn't
    denoising  shares of the noise schedule at which this model begins and ends
    enlargement, noise_level   how much larger the picture becomes, and how noisy it is shown; None where it is shown as it is
    said       the options as they were given
    pictures   those that were given, by the names of their options
    """

    name: WorkflowName
    image: Pictures | None
    mask: Pictures | None
    depth: Pictures | None
    strength: float
    begun_as: BegunAs
    mode: ResizeMode
    box: Box | None
    soft: bool
    content: Content
    paste: PasteBack | None
    image_guidance: float
    denoising: tuple[float | None, float | None]
    enlargement: Enlargement
    noise_level: int | None
    said: Mapping[str, Any]
    among: int | None
    pictures: Mapping[str, Pictures]

    @property
    def fresh(self) -> bool:
        """Whether images begin from noise alone: without a picture, and under a mask or an instruction that leaves nothing of it.

        The web UI lays noise on the picture in any case.
        """
        if self.name in ("txt2img", "instruct"):
            return True
        if self.begun_as != "diffusers":
            return False
        return self.name == "inpaint" and self.strength == 1.0 and self.content == "original"

    def recorded(self, index: int) -> dict[str, Any]:
        """The fields of image `index`'s recipe that say it."""
        inputs = {role: pictures.recorded(index) for role, pictures in self.pictures.items()}
        return {
            "workflow": self.name,
            "inputs": {role: record for role, record in inputs.items() if record is not None},
            "workflow_options": dict(self.said),
        }

    @property
    def is_recordable(self) -> bool:
        """Whether a recipe can name all its pictures."""
        return all(pictures.images or pictures.records for pictures in self.pictures.values())


def _json(value: Any) -> Any:
    """A number of any kind, a flag or a word, as JSON has it."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    number = whole(value)
    return float(value) if number is None else number


def _share(name: str, value: Any) -> float | None:
    """A share of the noise schedule; None for one that is not given, or is all of it, as in diffusers."""
    if value is None:
        return None
    share = check_number(name, value, least=0.0, most=1.0)
    return None if (name == "denoising_end" and share in (0.0, 1.0)) else share


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise OptionError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return value


def is_recordable(workflow: Workflow | None) -> bool:
    """Whether a recipe can name all the pictures of a call."""
    return workflow is None or workflow.is_recordable


def asked_again(recipe: Recipe, inputs: Mapping[str, Any]) -> Asked:
    """What a recipe's call asked for, with the pictures that it was given again.

    Raises RecipeError for a picture that is missing, and for options that are unknown; OptionError for what is no picture.
    """
    known = {option.name for option in fields(Asked)} - {"among", *_PICTURES}
    if unknown := sorted({*recipe.workflow_options} - known | {*recipe.inputs} - {*_PICTURES}):
        raise RecipeError(
            f"the recipe says {unknown[0]!r} of its pictures, which is unknown; a newer Sfumato may have written it"
        )
    if missing := [role for role in recipe.inputs if inputs.get(role) is None]:
        raise RecipeError(
            f"this image was made from other pictures, and these are missing: {missing_of(recipe, missing)}"
        )
    among = [record.get("among") for record in recipe.inputs.values() if isinstance(record, Mapping)]
    counts = [count for count in among if isinstance(count, int) and 1 <= count <= 2**16]
    pictures = {role: inputs[role] for role in recipe.inputs}
    return Asked(**pictures, **recipe.workflow_options, among=max(counts, default=None))


def missing_of(recipe: Recipe, roles: Sequence[str]) -> str:
    """Pictures of a recipe in words: what each is for, its file and the beginning of its hash."""
    said: list[str] = []
    for role in roles:
        record = recipe.inputs.get(role)
        record = cast("Mapping[str, Any]", record) if isinstance(record, Mapping) else {}
        said.append(f"{role} ({record.get('file', 'of no file')}, sha256 {str(record.get('sha256', 'unknown'))[:10]})")
    return ", ".join(said)
