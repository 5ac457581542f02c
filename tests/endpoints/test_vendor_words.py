"""The words of many vendors for the same errors, as their documentation and bug reports have them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalrunner.domain import Completion, Failure
from evalrunner.endpoints.openai_errors import parse_failure, wait_in


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def parse(status: int, body: Any, headers: dict[str, str] | None = None) -> Completion | Failure:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return parse_failure(status, headers or {}, raw)


PAGE = "<!DOCTYPE html><html><head><title>{}</title></head><body>{}</body></html>"

FILTERED: list[tuple[str, int, Any]] = [
    ("deepseek", 400, error("Content Exists Risk", type="invalid_request_error", code="invalid_request_error")),
    ("azure", 400, error("The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                         code="content_filter", param="prompt", innererror={"code": "ResponsibleAIPolicyViolation"})),
    ("azure through litellm", 400, error(
        "litellm.BadRequestError: OpenAIException - The response was filtered due to the prompt triggering Azure OpenAI's "
        "content management policy. Please modify your prompt and retry.", type=None, code="400")),
    ("litellm class", 400, error("litellm.ContentPolicyViolationError: AzureException - no", type=None, code="400")),
    ("openrouter moderation", 403, error("Your chosen model requires moderation and your input was flagged", code=403,
                                         metadata={"reasons": ["violence"], "flagged_input": "bomb"})),
    ("openrouter through litellm", 403, error("litellm.PermissionDeniedError: OpenrouterException - Your chosen model requires "
                                              "moderation and your input was flagged", type="permission_error", code="403")),
    ("openrouter error type", 403, error("Forbidden", code=403, metadata={"error_type": "content_policy_violation"})),
    ("openrouter raw", 400, error("Provider returned error", code=400, metadata={
        "raw": '{"error":{"message":"Content Exists Risk","type":"invalid_request_error"}}', "provider_name": "DeepSeek"})),
    ("xai", 403, error("Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_CSAM", code=403)),
    ("xai flat", 403, {"code": "The caller does not have permission", "error": "Content violates usage guidelines."}),
    ("openai image", 400, error("Your request was rejected as a result of our safety system.", code="moderation_blocked")),
    ("openai reasoning", 400, error("Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
                                    code="invalid_prompt")),
    ("openai cyber", 400, error("blocked", code="cyber_policy")),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error",
                                                   "message": "Output blocked by content filtering policy"}}),
    ("moonshot", 400, error("The request was rejected because it was considered high risk", type="content_filter")),
    ("dashscope", 400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content.",
                        "request_id": "x"}),
    ("dashscope compatible", 400, error("Input text data may contain inappropriate content.", code="data_inspection_failed")),
    ("zhipu", 400, error("系统检测到输入或生成内容可能包含不安全或敏感内容,请您避免输入易产生敏感内容的提示语", code="1301")),
    ("zhipu english", 400, error("System detected potentially unsafe or sensitive content in input or generation.", code="1301")),
    ("minimax", 500, {"type": "error", "error": {"type": "api_error", "message": "input_new_sensitive, messages[86] (1026)"}}),
    ("minimax flat", 400, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}),
    ("bedrock guardrail", 400, {"message": "The guardrail has blocked this request"}),
    ("litellm guardrail", 400, {"error": {"message": "{'error': 'Violated guardrail policy', 'guardrail': 'x'}", "code": "400"}}),
    ("vertex", 400, error("The prompt could not be submitted. This prompt contains sensitive words that violate Google's "
                          "Responsible AI practices.", status="INVALID_ARGUMENT")),
    ("mistral", 403, {"detail": "The request was blocked by the moderation guardrails", "code": "content_blocked"}),
    ("volcengine", 400, error("The request failed because the input text may contain sensitive information.",
                              code="SensitiveContentDetected")),
    ("volcengine risk", 400, error("The request failed because the input text may contain risk", code="InputTextRiskDetection")),
    ("blocked content", 400, error("The content you provided or machine outputted is blocked.", type="invalid_request_error")),
    ("content moderation", 422, error("Input failed content moderation")),
    ("declined", 400, error("Your request was declined by our moderation system")),
    ("llama guard", 400, error("This request was blocked by Llama Guard")),
    ("prohibited words", 400, error("Bad prompt: your message contains prohibited words")),
    ("jailbreak", 400, error("Jailbreak attempt detected")),
    ("code alone", 400, {"code": "unsafe", "message": "no"}),
    ("text of a firewall", 403, "Request blocked"),
    ("cloudflare text", 403, "error code: 1020"),
    ("cloudflare page", 403, PAGE.format("Attention Required! | Cloudflare", "Sorry, you have been blocked")),
    ("azure gateway page", 403, PAGE.format("Microsoft-Azure-Application-Gateway/v2", "403 Forbidden: web application firewall")),
    ("f5 page", 403, PAGE.format("Request Rejected", "The requested URL was rejected. Please consult your administrator.")),
    ("incapsula page", 403, PAGE.format("", "Request unsuccessful. Incapsula incident ID: 443000")),
    ("modsecurity page", 406, PAGE.format("Not Acceptable!", "generated by Mod_Security")),
    ("akamai page", 403, PAGE.format("Access Denied", "You don't have permission to access this. Reference #18.6f 1 errors.edgesuite.net")),
    ("cloudfront page", 403, PAGE.format("ERROR: The request could not be satisfied", "Request blocked.")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), [case[1:] for case in FILTERED], ids=[case[0] for case in FILTERED])
def test_a_filter_is_the_rows_in_the_words_of_every_vendor(status: int, body: Any) -> None:
    answer = parse(status, body)
    assert isinstance(answer, Completion)
    assert (answer.text, answer.finish_reason, bool(answer.filter_message)) == ("", "filtered", True)


NOT_FILTERED: list[tuple[str, int, Any, str]] = [
    ("a guardrail that does not exist", 404, error("Guardrail identifier or version does not exist"), "bad_request"),
    ("a guardrail that is down", 500, error("Guardrail check failed: connection refused"), "server"),
    ("an organization's policy", 403, error("Request is prohibited by organization's policy. vpcServiceControls"), "bad_request"),
    ("a content type", 400, error("Invalid content type. image_url is only supported by certain models."), "bad_request"),
    ("a schema", 400, error("The response_format is invalid: schema violates strict terms"), "bad_request"),
    ("a network rule", 403, error("Access denied due to Virtual Network/Firewall rules."), "auth"),
    ("a wrong safety setting", 400, error("Invalid value at 'safety_settings[0]'", status="INVALID_ARGUMENT"), "bad_request"),
    ("an outage of a content network", 503, PAGE.format("ERROR: The request could not be satisfied", "503 ERROR"), "server"),
    ("a challenge to a browser", 403, PAGE.format("Just a moment...", "Enable JavaScript and cookies to continue"), "bad_request"),
    ("an outage page with links", 502, PAGE.format("502 Bad Gateway", "usage policy, content policy"), "server"),
    ("a policy on rates", 429, error("You violated the usage policy: too many requests"), "rate_limit"),
    ("words of the prompt", 400, error("temperature is out of range", metadata={"flagged_input": "your input was flagged"}),
     "bad_request"),
    ("words of the request body", 422, {"detail": [{"loc": ["body"], "msg": "Field required", "input": {
        "messages": "maximum context length; api key; content policy"}}]}, "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "kind"), [case[1:] for case in NOT_FILTERED], ids=[case[0] for case in NOT_FILTERED]
)
def test_other_errors_that_mention_safety_are_no_filter(status: int, body: Any, kind: str) -> None:
    result = parse(status, body)
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == (kind, status == 404 or kind == "auth")


TOO_LONG: list[tuple[str, int, Any]] = [
    ("openai", 400, error("This model's maximum context length is 8192 tokens.", code="context_length_exceeded")),
    ("openai gpt-5", 400, error("Your input exceeds the context window of this model. Please adjust your input and try again.")),
    ("openai limit", 400, error("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000.")),
    ("openai one text", 400, error("Invalid 'messages[0].content': string too long. Expected a string with maximum length "
                                   "1048576, but got 1800000 instead.", code="string_above_max_length")),
    ("openai request", 429, error("Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, "
                                  "Requested 41234.", type="tokens", code="rate_limit_exceeded")),
    ("groq request", 413, error("Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7000",
                                code="rate_limit_exceeded")),
    ("groq", 400, error("Please reduce the length of the messages or completion.", code="context_length_exceeded")),
    ("anthropic", 400, error("prompt is too long: 210000 tokens > 200000 maximum", type="invalid_request_error")),
    ("anthropic limit", 400, error("input length and `max_tokens` exceed context limit: 199211 + 20000 > 200000")),
    ("anthropic size", 413, error("Request exceeds the maximum size", type="request_too_large")),
    ("gemini", 400, error("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")),
    ("vertex", 400, error("Unable to submit request because the input token count is 40000 but model only supports up to 32768. "
                          "Reduce the input token count and try again.")),
    ("bedrock", 400, {"message": "Input is too long for requested model."}),
    ("bedrock tokens", 400, {"message": "Too many input tokens. Max input tokens: 8192, request input token count: 9000"}),
    ("bedrock cohere", 400, {"message": "Malformed input request: expected maxLength: 2048, actual: 4096"}),
    ("cohere", 400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 10000."}),
    ("mistral", 400, {"object": "error", "message": "Prompt contains 150000 tokens and 0 draft tokens, too large for model with "
                      "131072 maximum context length", "type": "invalid_request_prompt", "code": "3051"}),
    ("xai", 400, {"error": "This model's maximum prompt length is 131072 but the request contains 150000 tokens."}),
    ("deepseek", 400, error("This model's maximum context length is 65536 tokens. However, you requested 70000 tokens")),
    ("dashscope", 400, {"code": "InvalidParameter", "message": "Range of input length should be [1, 129024]"}),
    ("moonshot", 400, error("Invalid request: Your request exceeded model token limit: 8192")),
    ("moonshot input", 400, error("Invalid request: Input token length too long")),
    ("minimax", 400, error("invalid params, context window exceeds limit (2013)")),
    ("zhipu", 400, error("Prompt exceeds max length", code="1261")),
    ("together", 422, error("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000")),
    ("fireworks", 400, error("The prompt is too long: 140000, model maximum context length: 131071")),
    ("openrouter", 400, error("This endpoint's maximum context length is 32768 tokens. However, you requested about 40000")),
    ("openrouter raw", 400, error("Provider returned error", code=400, metadata={
        "raw": '{"message":"Input length 40000 exceeds the maximum allowed input length of 32768 tokens."}'})),
    ("openrouter type", 400, error("Provider returned error", metadata={"error_type": "context_length_exceeded"})),
    ("vllm", 400, {"object": "error", "message": "The decoder prompt (length 40000) is longer than the maximum model length of "
                   "32768.", "type": "BadRequestError", "code": 400}),
    ("vllm output", 400, error("'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is "
                               "4096 tokens and your request has 100 input tokens (5000 > 4096 - 100).")),
    ("vllm requested", 400, error("You passed 40001 input tokens and requested 0 output tokens. However, the model's context length "
                                  "is only 32768 tokens, resulting in a maximum input length of 32768 tokens.")),
    ("sglang", 400, {"object": "error", "message": "The input (50000 tokens) is longer than the model's context length (32768 "
                     "tokens).", "type": "BadRequestError", "code": 400}),
    ("sglang requested", 400, {"message": "Requested token count exceeds the model's maximum context length of 32768 tokens."}),
    ("tgi", 422, {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
                  "error_type": "validation"}),
    ("llama.cpp", 400, error("the request exceeds the available context size, try increasing it", type="exceed_context_size_error")),
    ("llama.cpp 500", 500, error("context size exceeded", code=500)),
    ("lm studio", 400, {"error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded "
                        "with context length of only 4096 tokens, which is not enough."}),
    ("lm studio tokens", 400, {"error": "The number of tokens to keep from the initial prompt is greater than the context length."}),
    ("ollama", 400, {"error": "input length exceeds maximum context length"}),
    ("ollama model", 500, {"error": "prompt too long; exceeded max context length by 300 tokens"}),
    ("litellm", 400, error("litellm.ContextWindowExceededError: litellm.BadRequestError: …", code="400")),
    ("cerebras", 400, {"message": "Please reduce the length of the messages. Current length is 9000 while limit is 8192",
                       "code": "context_length_exceeded"}),
    ("github models", 413, error("Request body too large for gpt-4o model. Max size: 8000 tokens.", code="tokens_limit_reached")),
    ("copilot", 400, error("prompt token count of 130000 exceeds the limit of 128000", code="model_max_prompt_tokens_exceeded")),
    ("databricks", 400, {"error_code": "BAD_REQUEST", "message": "Input is too long. Number of tokens exceeds the limit"}),
    ("watsonx", 400, {"errors": [{"code": "invalid_input_argument", "message": "Invalid input argument for Model 'x': the number of "
                                  "input tokens 5000 cannot exceed the total tokens limit 4096 for this model"}]}),
    ("vllm of an older version", 400, error("max_tokens must be at least 1, got -5000.")),
    ("total", 400, error("The total number of tokens (prompt+completion) is 9000, which exceeds the limit")),
    ("limit is", 400, error("Your prompt has 9000 tokens but the limit is 8192")),
    ("requested", 400, error("This model supports a maximum of 4096 tokens, you requested 5000")),
    ("size in a 400", 400, error("Payload too large")),
    ("nginx", 413, PAGE.format("413 Request Entity Too Large", "nginx")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), [case[1:] for case in TOO_LONG], ids=[case[0] for case in TOO_LONG])
def test_a_prompt_that_is_too_long_is_the_rows_in_the_words_of_every_vendor(status: int, body: Any) -> None:
    result = parse(status, body)
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == ("context_length", False)


NOT_TOO_LONG: list[tuple[str, int, Any, str]] = [
    ("openai output", 400, error("max_tokens is too large: 20000. This model supports at most 16384 completion tokens."), "bad_request"),
    ("dashscope output", 400, error("Range of max_tokens should be [1, 8192]"), "bad_request"),
    ("bedrock throttle", 429, {"message": "Too many tokens, please wait before trying again."}, "rate_limit"),
    ("per minute", 429, error("Rate limit reached on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000."), "rate_limit"),
    ("per minute in a 400", 400, error("Your requests exceed the limit of tokens per minute; rate limit exceeded"), "rate_limit"),
    ("a header", 400, error("Invalid header"), "bad_request"),
    ("an image", 400, error("messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6 bytes > 5 bytes"), "bad_request"),
    ("depth", 400, error("tools[0].function.parameters exceeds maximum depth of 5"), "bad_request"),
    ("items", 400, error("Invalid 'input': array exceeds maximum number of items 2048"), "bad_request"),
    ("many messages", 400, error("Too many messages: 3000, max 2048"), "bad_request"),
    ("a server that broke", 500, error("unexpected EOF: message was truncated"), "server"),
    ("stop words", 400, error("too many stop sequences: at most 4"), "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "kind"), [case[1:] for case in NOT_TOO_LONG], ids=[case[0] for case in NOT_TOO_LONG]
)
def test_other_limits_are_no_prompt_that_is_too_long(status: int, body: Any, kind: str) -> None:
    result = parse(status, body)
    assert isinstance(result, Failure)
    assert result.kind == kind


PAYMENT: list[tuple[str, int, Any]] = [
    ("openai", 429, error("You exceeded your current quota, please check your plan and billing details.",
                          type="insufficient_quota", code="insufficient_quota")),
    ("openai hard limit", 400, error("Billing hard limit has been reached", code="billing_hard_limit_reached")),
    ("openai inactive", 429, error("Your account is not active, please check your billing details", code="billing_not_active")),
    ("openrouter", 402, error("Insufficient credits. Add more using https://openrouter.ai/credits", code=402)),
    ("deepseek", 402, error("Insufficient Balance")),
    ("anthropic", 400, error("Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.")),
    ("xai", 403, error("Your team has either used all available credits or reached its monthly spending limit.")),
    ("moonshot", 429, error("Your account balance is insufficient", type="exceeded_current_quota_error")),
    ("zhipu", 429, error("余额不足或无可用资源包,请充值。", code="1113")),
    ("dashscope", 400, {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."}),
    ("dashscope free tier", 403, {"code": "AllocationQuota.FreeTierOnly", "message": "The free tier of the model has been exhausted."}),
    ("litellm budget", 400, error("Budget has been exceeded! Current cost: 1.2, Max budget: 1.0", type="budget_exceeded")),
    ("together", 402, {"error": {"message": "Credit limit exceeded", "type": "credit_limit"}}),
    ("minimax", 400, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
    ("perplexity", 401, error("You exceeded your current quota", type="insufficient_quota", code=401)),
    ("anthropic limit", 400, error("You have reached your specified API usage limits. You will regain access on 2026-10-01.")),
    ("huggingface", 402, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), [case[1:] for case in PAYMENT], ids=[case[0] for case in PAYMENT])
def test_an_empty_account_is_final_and_says_payment(status: int, body: Any) -> None:
    result = parse(status, body)
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == ("rate_limit", True)
    assert "payment" in result.message


GEMINI = "You exceeded your current quota, please check your plan and billing details."


def google(quota: str, delay: str | None = None, message: str = GEMINI) -> dict[str, Any]:
    details: list[Any] = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}]
    if delay is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}


LIMITS: list[tuple[str, int, Any, float | None]] = [
    ("gemini a minute", 429, google("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "34.5s"), 34.5),
    ("gemini in a list", 429, [google("GenerateRequestsPerMinutePerProjectPerModel", "1s")], 1.0),
    ("gemini a day", 429, google("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "39600s"), 39_600.0),
    ("gemini sentence", 429, error(f"{GEMINI} Please retry in 1.5s."), 1.5),
    ("gemini through litellm", 429, error(f"litellm.RateLimitError: GeminiException - {GEMINI}", type="throttling_error", code="429"), None),
    ("groq", 429, error("Rate limit reached for model `x` on tokens per day (TPD): Limit 100000, Used 99857, Requested 642. "
                        "Please try again in 7m11.1s.", code="rate_limit_exceeded"), 431.1),
    ("openai", 429, error("Rate limit reached for gpt-4o. Please try again in 850ms.", code="rate_limit_exceeded"), 0.85),
    ("azure", 429, error("Requests to the ChatCompletions_Create Operation have exceeded call rate limit. Please retry after 26 "
                         "seconds.", code="429"), 26.0),
    ("openrouter", 429, error("Rate limit exceeded: free-models-per-min", code=429, metadata={"headers": {
        "X-RateLimit-Limit": "20", "Retry-After": "12"}}), 12.0),
    ("dashscope", 429, error("You exceeded your current quota: allocated quota exceeded", code="insufficient_quota"), None),
    ("kimi", 403, error("You've reached your 5-hour usage limit."), None),
    ("bedrock", 400, {"__type": "ThrottlingException", "message": "Too many requests, please wait before trying again"}, None),
    ("bedrock quota", 400, {"__type": "ServiceQuotaExceededException", "message": "You have exceeded your service quota"}, None),
    ("cohere", 429, {"message": "You are using a Trial key, which is limited to 40 API calls / minute."}, None),
    ("field", 429, {"error": {"message": "slow down", "retry_after": 3}}, 3.0),
    ("milliseconds", 429, {"message": "slow down", "details": {"retry_after_ms": 1500}}, 1.5),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "wait_s"), [case[1:] for case in LIMITS], ids=[case[0] for case in LIMITS])
def test_a_limit_that_ends_by_itself_is_not_final_and_its_wait_is_read(
    status: int, body: Any, wait_s: float | None
) -> None:
    result = parse(status, body)
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == ("rate_limit", False)
    assert result.retry_after_s == (None if wait_s is None else pytest.approx(wait_s))


def test_the_header_overrides_what_the_body_says_of_the_wait() -> None:
    result = parse(429, google("GenerateRequestsPerMinute", "9s"), {"retry-after": "2"})
    assert isinstance(result, Failure)
    assert result.retry_after_s == 2.0


KEYS: list[tuple[str, int, Any, str, bool]] = [
    ("openai", 401, error("Incorrect API key provided", code="invalid_api_key"), "auth", True),
    ("anthropic", 401, error("invalid x-api-key", type="authentication_error"), "auth", True),
    ("openrouter", 401, error("User not found.", code=401), "auth", True),
    ("fastapi", 403, {"detail": "Not authenticated"}, "auth", True),
    ("aws", 403, {"message": "The security token included in the request is invalid"}, "auth", True),
    ("google", 403, error("Permission denied on resource project x", status="PERMISSION_DENIED"), "auth", True),
    ("minimax", 400, {"base_resp": {"status_code": 2049, "status_msg": "invalid api key"}}, "auth", True),
    ("bare", 403, "", "bad_request", False),
    ("forbidden", 403, "Forbidden", "bad_request", False),
    ("nginx", 403, PAGE.format("403 Forbidden", "nginx"), "bad_request", False),
    ("place", 403, error("Country, region, or territory not supported", code="unsupported_country_region_territory"),
     "bad_request", True),
    ("model", 403, error("Project `p` does not have access to model `gpt-9`", code="model_not_found"), "bad_request", True),
    ("proxy", 407, "", "auth", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "kind", "fatal"), [case[1:] for case in KEYS], ids=[case[0] for case in KEYS]
)
def test_a_403_is_about_the_key_only_if_it_speaks_of_who_asks(status: int, body: Any, kind: str, fatal: bool) -> None:
    result = parse(status, body)
    assert isinstance(result, Failure)
    assert (result.kind, result.fatal) == (kind, fatal)
    assert ("api_key" in result.message) == (kind == "auth" and status != 407)


@pytest.mark.parametrize(
    ("sentence", "seconds"),
    [
        ("Please retry in 1.5s.", 1.5), ("Please try again in 7m12.5s", 432.5), ("try again in 1h2m3s.", 3723.0),
        ("Try again in 20 seconds", 20.0), ("Please wait 1 minute and 5 seconds", 65.0), ("retry after 2 min", 120.0),
        ("wait, what", None), ("try again later", None), ("in 5 seconds", None), ("retry in 0s", None),
    ],
)  # fmt: skip
def test_waits_in_sentences(sentence: str, seconds: float | None) -> None:
    assert wait_in(sentence) == seconds


def test_a_model_that_is_loading_says_how_long() -> None:
    result = parse(503, {"error": "Model x is currently loading", "estimated_time": 20.0})
    assert isinstance(result, Failure)
    assert (result.kind, result.retry_after_s) == ("server", 20.0)


def test_the_words_of_the_provider_behind_a_gateway_are_quoted() -> None:
    body = error("Provider returned error", code=502, metadata={"raw": '{"error":{"message":"GPU on fire"}}'})
    result = parse(502, body)
    assert isinstance(result, Failure)
    assert result.message == "the server failed (HTTP 502): Provider returned error: GPU on fire"
