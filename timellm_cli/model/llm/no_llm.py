"""The same model without an LLM, for honest comparison."""

from torch import Tensor, nn

from timellm_cli.model.tokens import PromptTokens


class NoLLM(nn.Module):
    """Stands in the LLM's place and changes nothing."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size

    def admit(self, prompt: PromptTokens) -> None:
        """Nothing reads a prompt."""

    def forward(self, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:  # noqa: ARG002
        """The tokens themselves."""
        return tokens_BPE
