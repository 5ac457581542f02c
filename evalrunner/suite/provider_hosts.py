"""The hosts of model providers: where LiteLLM sends the requests of a model string, as far as its name tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from evalrunner.egress import ANY_HOST, Address, EgressPolicy, HostPattern
from evalrunner.suite.environment import provider_of, settings_of_provider

AWS = (
    "*.amazonaws.com", "*.amazonaws.com.cn", "*.api.aws", "http://169.254.169.254", "http://169.254.170.2",
    "http://169.254.170.23",
)  # fmt: skip
GOOGLE = ("*.googleapis.com", "http://metadata.google.internal", "http://169.254.169.254")
AZURE = (
    "*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com", "*.models.ai.azure.com",
    "login.microsoftonline.com", "login.microsoftonline.us", "http://169.254.169.254",
)  # fmt: skip
PROVIDER_HOSTS: Mapping[str, tuple[str, ...]] = {
    "ai21": ("api.ai21.com",),
    "ai21_chat": ("api.ai21.com",),
    "anthropic": ("api.anthropic.com",),
    "azure": AZURE,
    "azure_ai": AZURE,
    "bedrock": AWS,
    "cerebras": ("api.cerebras.ai",),
    "codestral": ("codestral.mistral.ai",),
    "chatgpt": ("chatgpt.com", "auth.openai.com"),
    "cohere": ("api.cohere.ai", "api.cohere.com"),
    "cohere_chat": ("api.cohere.ai", "api.cohere.com"),
    "dashscope": ("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
    "databricks": ("*.databricks.com", "*.azuredatabricks.net", "*.gcp.databricks.com"),
    "deepinfra": ("api.deepinfra.com",),
    "deepseek": ("api.deepseek.com",),
    "fireworks_ai": ("api.fireworks.ai",),
    "friendliai": ("api.friendli.ai",),
    "gemini": ("generativelanguage.googleapis.com", *GOOGLE),
    "github_copilot": ("github.com", "api.github.com", "api.githubcopilot.com", "*.githubcopilot.com"),
    "groq": ("api.groq.com",),
    "hosted_vllm": (),
    "huggingface": ("router.huggingface.co", "huggingface.co", "*.endpoints.huggingface.cloud"),
    "jina_ai": ("api.jina.ai",),
    "lambda_ai": ("api.lambda.ai",),
    "litellm_proxy": (),
    "lm_studio": (),
    "meta_llama": ("api.llama.com",),
    "mistral": ("api.mistral.ai",),
    "moonshot": ("api.moonshot.ai", "api.moonshot.cn"),
    "nebius": ("api.studio.nebius.ai", "api.tokenfactory.nebius.com"),
    "novita": ("api.novita.ai",),
    "nvidia_nim": ("integrate.api.nvidia.com", "ai.api.nvidia.com"),
    "ollama": ("http://localhost:11434", "http://127.0.0.1:11434"),
    "ollama_chat": ("http://localhost:11434", "http://127.0.0.1:11434"),
    "openai": ("api.openai.com",),
    "openrouter": ("openrouter.ai",),
    "perplexity": ("api.perplexity.ai",),
    "replicate": ("api.replicate.com", "*.replicate.net", "*.replicate.delivery"),
    "sagemaker": AWS,
    "sagemaker_chat": AWS,
    "sambanova": ("api.sambanova.ai",),
    "text-completion-openai": ("api.openai.com",),
    "together_ai": ("api.together.ai", "api.together.xyz"),
    "vertex_ai": GOOGLE,
    "voyage": ("api.voyageai.com",),
    "watsonx": ("*.cloud.ibm.com",),
    "xai": ("api.x.ai",),
}
"""The documented hosts of providers, those of their logins included; an empty tuple is for servers without a default.

Of other providers only LiteLLM knows the hosts.
"""

ADDRESS_PARAMS = ("api_base", "base_url")
ADDRESS_VARIABLE = re.compile(r"_(API_BASE|BASE_URL|ENDPOINT)(_URL)?$")
MORE_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "bedrock": ("AWS_BEDROCK_RUNTIME_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"),
    "databricks": ("DATABRICKS_HOST",),
    "friendliai": ("FRIENDLI_API_BASE",),
    "github_copilot": (
        "GITHUB_COPILOT_DEVICE_CODE_URL",
        "GITHUB_COPILOT_ACCESS_TOKEN_URL",
        "GITHUB_COPILOT_API_KEY_URL",
    ),
    "huggingface": ("HF_API_BASE",),
    "meta_llama": ("LLAMA_API_BASE",),
    "sagemaker": ("AWS_ENDPOINT_URL",),
    "watsonx": ("WATSONX_URL",),
}
"""Variables with the address of a provider whose names do not begin with its first word."""

LOGIN_VARIABLES = (
    "AZURE_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT_URL_STS",
    "WATSONX_IAM_URL",
)  # fmt: skip
"""Where logins of clouds come from in place of the documented hosts."""


def named_addresses(model: str, params: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Where from and URL of each address that is set for a model string: by `params`, else by variables of its provider."""
    given = {f"params.{name}": str(params[name]) for name in ADDRESS_PARAMS if params.get(name)}
    given |= {
        f"params.{name}": value
        for name, value in params.items()
        if isinstance(value, str) and value.startswith(("http://", "https://"))
    }
    return given or {name: environ[name] for name in _variables(provider_of(model), environ)}


def _variables(provider: str, environ: Mapping[str, str]) -> Iterator[str]:
    """The variables with an address of a provider: those with its first word, for LiteLLM has several names for some."""
    word = re.split(r"[_\W]", provider.removeprefix("text-completion-"))[0].upper()
    settings = (*settings_of_provider(provider), *MORE_VARIABLES.get(provider, ()))
    for name in sorted(environ):
        named = name in settings or (word and name.startswith(f"{word}") and ADDRESS_VARIABLE.search(name))
        if named and "://" in environ[name]:
            yield name


def policy_of_model(model: str, params: Mapping[str, Any], environ: Mapping[str, str]) -> EgressPolicy:
    """The hosts that a model string names; every host where only LiteLLM knows them. Raises ValueError for no URL."""
    hosts = PROVIDER_HOSTS.get(provider_of(model))
    addresses = [Address.of(url) for url in named_addresses(model, params, environ).values()]
    if hosts is None:
        return ANY_HOST
    addresses += [Address.of(environ[name]) for name in LOGIN_VARIABLES if "://" in environ.get(name, "")]
    named = (HostPattern(address.host, address.port, address.scheme) for address in addresses)
    patterns = (*named, *map(HostPattern.parse, hosts))
    return EgressPolicy(patterns, f"the model {model!r}", advice="set params.api_base to its address")
