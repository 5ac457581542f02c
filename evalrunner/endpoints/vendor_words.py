"""The words of vendors: how answers end, and what errors say, one table for each kind of sentence.

Data only. Every word is from the documentation, the source or a bug report of OpenAI, Azure, Anthropic, Gemini, Vertex,
Bedrock, Cohere, Mistral, DeepSeek, DashScope, Zhipu, Moonshot, MiniMax, xAI, Groq, Together, OpenRouter, LiteLLM,
Ollama, LM Studio, llama.cpp, vLLM, SGLang or TGI. Finish reasons are compared in lower case, with any sign but letters
and digits as `_`. Phrases are searched in the codes, the message and the details of an error in lower case, never in
the parts of a reply that quote the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Literal, TypeAlias

from evalrunner.domain import FinishReason

Ending: TypeAlias = FinishReason | Literal["broken", "unknown"]
"""A finish reason, `broken` for an answer that was broken off, `unknown` for a word of no table."""

WORDS: Final[Mapping[Ending, str]] = {
    "stop": """
        stop stopped eos eos_token end_turn stop_sequence stop_token complete completed done end finish finished success
        end_of_text endoftext normal
    """,
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "length": """
        length max_tokens max_length max_output_tokens max_new_tokens max_completion_tokens model_length token_limit
        token_limit_reached max_tokens_reached model_context_window_exceeded context_window_exceeded context_length
        context_length_exceeded max_context_length length_limit error_limit
    """,
    "filtered": """
        content_filter content_filtered contentfilter content_policy content_policy_violation content_blocked safety
        recitation prohibited_content blocklist spii language guardrail guardrails guardrail_intervened sensitive error_toxic
        image_safety image_prohibited_content image_recitation model_armor jailbreak moderation flagged blocked
        data_inspection_failed high_risk cyber_policy
    """,
    "refused": "refusal refused",
    "broken": """
        error errored abort aborted cancel canceled cancelled user_cancel network_error connection_error incomplete
        interrupted insufficient_system_resource resource_exhausted rate_limit rate_limit_exceeded overloaded
        engine_overloaded preempted load unload timeout timed_out internal_error server_error unknown_error api_error
        failed failure exception shutdown engine_dead other malformed_function_call malformed_tool_call malformed_tool_use
        malformed_model_output malformed_response unexpected_tool_call too_many_tool_calls pause_turn
    """,
}  # fmt: skip
"""Ollama ends with `load` without an answer; Gemini's `OTHER` is any stop that is neither regular nor a filter."""

STEMS: Final[tuple[tuple[Ending, str], ...]] = (
    ("broken", r"^(?:in_progress|running|queued|pending|unfinished|not_finished|partial|rate_limit|(?:time|deadline|queue|memory)_limit)"),
    ("filtered", r"filter|safety|unsafe|guardrail|moderat|sensitiv|censor|toxic|prohibit|jailbreak|policy|violat|blocked|flagged|harm"),
    ("broken", (r"error|fail|abort|cancel|interrupt|incomplete|disconnect|exception|crash|unavailable|overload|unload|terminated"
               r"|kill|preempt|(?:^|_)oom(?:_|$)|out_of_memory|deadline|time_?out|timed_out|lost|shutdown|bad_gateway|halted|user_stop")),
    ("length", (r"(?:max|maximum|limit|length|exceed|over|reach|too_many).*(?:tok|len|context|output|window|limit)"
               r"|(?:tok|len|context|output|window).*(?:max|limit|exceed|overflow|reach|full)|truncat|cut_?off|^limits?$"
               r"|repetition|loop_detect")),
    ("stop", r"^(?:eos|eot|eof)(?:_|$)|(?:^|_)eos$|end_of_(?:seq|sent|turn|text|stream)|^(?:matched_)?stop_(?:str|word|seq|tok|token|id)"),
    ("tool_calls", r"^(?:tool|function)_(?:call|use)s?$"),
)  # fmt: skip
"""Parts of words that tell how an answer ended where the word is in no table, the first that matches. Servers stop at a loop
of repetitions as they do at a limit."""

_ENDINGS: Final[Mapping[str, Ending]] = {word: ending for ending, words in WORDS.items() for word in words.split()}
_PREFIX = re.compile(r"^(?:finish_reason|finishreason|stop_reason|stopreason)_+")
_SIGNS = re.compile(r"[^a-z0-9]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_UNSTATED = ("", "null", "none", "unspecified")


def ending_of(reason: Any) -> Ending | None:
    """How an answer with this finish reason ends; None if the reply states no reason."""
    return _ending(reason) if isinstance(reason, str) else "unknown" if reason or reason == 0 else None


@cache
def _ending(reason: str) -> Ending | None:
    word = _PREFIX.sub("", _SIGNS.sub("_", _HUMP.sub("_", reason).lower()).strip("_"))
    if word in _UNSTATED:
        return None
    # Gemini writes `content_filter: SAFETY`
    first = _SIGNS.sub("_", reason.partition(":")[0].lower()).strip("_")
    known = _ENDINGS.get(word) or _ENDINGS.get(word.replace("_", "")) or _ENDINGS.get(first)
    return known or next((ending for ending, stem in STEMS if re.search(stem, word)), "unknown")


class Phrases:
    """Patterns of one kind of sentence. They are compiled at their first use: a run without errors needs none of them."""

    __slots__ = ("_compiled", "_patterns")

    def __init__(self, *patterns: str) -> None:
        self._patterns = patterns
        self._compiled: re.Pattern[str] | None = None

    def search(self, text: str) -> re.Match[str] | None:
        """The first match of any pattern in a text in lower case."""
        if self._compiled is None:
            self._compiled = re.compile("|".join(self._patterns))
        return self._compiled.search(text)


_INPUT = r"(?:prompt|inputs?`?|messages?|context|conversation|request|query|sequence|body)"
_OVER = (
    r"(?:too long|too large|longer than|larger than|greater than|more than|exceed(?:s|ed|ing)?|over the|overflows?"
    r"|out of range|must have (?:less|at most)|must be (?:less|at most|no more|<)|should (?:not exceed|have at most)|beyond|surpass)"
)
_SIZE = r"(?:tokens?|context|length|window|characters)"

TOO_LONG: Final = Phrases(
    r"context[_ -]?(?:length|window|size|limit)[_ ]?(?:is |was )?(?:exceed|overflow)", r"exceed_context_size",
    r"contextwindowexceeded", r"string_above_max_length", r"request_too_large", r"prompt[_ ]too[_ ]long",
    r"input[_ ]too[_ ]long", r"tokens_limit_reached", r"model_context_window", r"`inputs` tokens",
    r"context[_ -](?:length|window|size|limit)\b.{0,80}(?:is only|of only|of \d|while)",  # LM Studio
    r"maximum (?:context|prompt|input|sequence|model)(?: sequence)? (?:length|size|tokens|window)",
    r"max(?:imum)?[_ ](?:context|model|prompt|seq|input)[_ ]len(?:gth)?",
    r"(?:context|maximum model) (?:length|window|size|limit)\b[^.\n]{0,40}(?:exceed|smaller|too small)",
    rf"\b{_INPUT}\b[^.\n]{{0,80}}{_OVER}[^.\n]{{0,60}}{_SIZE}", rf"\b{_INPUT}\b[^.\n]{{0,40}}\b(?:is |are |was )?too long",
    rf"{_OVER} (?:the |this |your )?(?:model'?s? )?(?:available |maximum |max )?(?:context|token limit|input limit)",
    r"exceed(?:s|ed)? (?:the )?(?:maximum|max|configured) (?:number of (?:input )?tokens|input|limit of \d+ tokens)",
    r"input tokens exceed", r"too many (?:input |prompt )?tokens(?!,? please wait)", r"tokens? (?:count|limit)\b.{0,40}exceed",
    r"prompt token count of \d+", r"current length is \d+ while limit", r"range of input length should be",
    r"input (?:text )?length should not", r"length limit exceeded", r"(?:reduce|shorten) (?:the length of )?(?:the|your) "
    r"(?:length|prompt|input|messages?|context|conversation)", r"payload size exceeds", r"expected maxlength",
    r"input is too long", r"number of (?:input |prompt )?tokens\b[^.\n]{0,60}(?:exceed|must be)", r"(?:payload|request|entity|body) too large",
    r"max(?:imum)? tokens of \d+ exceeded", r"超长", r"(?:长度|上下文|tokens?\s?(?:数|数量)?)[^。\n]{0,12}(?:过长|超过|超出|上限)",
    r"トークン数?[^。\n]{0,30}(?:超え|超過|上限)", r"토큰[^.\n]{0,30}초과",
    r"max_tokens must be at least 1, got -\d",  # vLLM, of a prompt that leaves no token
    r"\d tokens?\b[^.\n]{0,40}\b(?:limit|maximum|max) (?:is|of) \d", r"maximum of \d+ tokens[^\n]{0,40}requested",
)  # fmt: skip
"""Prompts that are too long, with any status but 429, where limits per minute count tokens too."""

TOO_LARGE_FOR_LIMIT: Final = Phrases(r"request too large", r"\bsingle request\b.{0,60}exceeds")
"""A single request above a whole minute's limit: the row's own, unlike a limit that is used up."""

NO_SUCH_MODEL: Final = Phrases(
    r"model_not_found", r"invalid_model\b", r"model_not_available", r"unknown_model", r"deploymentnotfound",
    r"invalid model name", r"not a valid model", r"model not exist", r"llm provider not provided", r"no such model",
    r"\bmodel\b.{0,80}(?:does not exist|not found|is not supported by any provider)", r"(?:not|n't) have access to (?:the )?model",
    r"model_not_supported", r"模型不存在",
)  # fmt: skip

NO_SUCH_URL: Final = Phrases(
    r"unexpected endpoint", r"no route matched", r"invalid url", r"unknown (?:request )?url", r"page not found", r"cannot post /",
)  # fmt: skip
"""A server that answers with an error, but does not know this address."""

DOWN: Final = Phrases(
    r"model (?:has |was |is )?(?:been )?(?:crashed|unloaded|still loading|currently loading)",
    r"out of memory",
    r"cuda error",
    r"degraded function",
    r"failed during generation",
)
"""Trouble of the server itself, whatever its status."""

NO_PAYMENT: Final = Phrases(
    r"insufficient[_ -](?:quota|balance|credits?|funds)", r"balance[^.\n]{0,20}\binsufficient", r"exceeded_current_quota",
    r"billing_hard_limit", r"billing_not_active", r"billing_error", r"credit[_ ]balance", r"(?:out of|no more|used all) [a-z ]{0,12}credits",
    r"payment required", r"arrearage", r"overdue", r"spend(?:ing)?[_ ]limit", r"free ?tier ?only", r"prepay[a-z]* credits", r"credit[_ ]limit", r"reached your specified",
    r"included credits",
    r"budget[_ ](?:has been )?exceeded", r"usage_not_included", r"top up your", r"please recharge", r"余额不足", r"欠费",
    r"in arrears", r"(?:n't|not|no) (?:have )?(?:any |enough |sufficient )?credits", r"credits? (?:have |has )?(?:expired|exhausted)",
    r"insufficient_user_quota", r"额度(?:不足|已用)", r"充值", r"purchase (?:more )?credits", r"exceeded your (?:monthly )?budget",
    r"(?:calls|requests|tokens|limited|limit|quota)\b[^.\n$]{0,30}(?:per|/) ?month\b", r"monthly (?:[a-z]+ )?(?:quota|allowance|limit|cap|budget)",
)  # fmt: skip
"""The account has no money or quota left: only a payment helps."""

QUOTA_SENTENCE: Final = Phrases(r"exceeded your current quota", r"check your plan and billing")
"""Said of an empty account and of a limit per minute; only a code tells which."""

TIMED_LIMIT: Final = Phrases(
    r"per[ _-]?(?:second|minute|hour|day)", r"每(?:秒|分钟|小时|天|日)", r"\b(?:rpm|tpm|rpd|tpd)\b", r"retryinfo", r"retrydelay", r"resource[_ ]?exhausted",
    r"(?:retry|try again) in\b", r"retry after \d", r"allocated quota exceeded", r"throttling\.", r"throttlingexception", r"service_?quota",
)  # fmt: skip
"""A limit that ends by itself, whatever else its sentence says of plans and billing."""

PER_TIME: Final = Phrases(r"per[ _-]?(?:second|minute|hour|day)", r"每(?:秒|分钟|小时|天|日)")

ENDS_BY_ITSELF: Final = Phrases(r"allocated quota exceeded", r"throttling")
"""DashScope's rate limit, which has the code of an empty account elsewhere."""

RATE_LIMITED: Final = Phrases(
    r"rate[_ -]?limit", r"too[_ ]many[_ ]requests", r"throttl", r"resource[_ ]?exhausted", r"requests? per (?:minute|second|day)",
    r"usage limit", r"service_?quota_?exceeded", r"exceeded your service quota", r"concurrency limit", r"max(?:imum)? (?:request|concurrency|rpm|tpm)", r"\"?retrydelay",
    r"\bqps\b", r"request limit reached", r"\blimitexceeded\b", r"volume quota", r"并发", r"请求(?:过多|频繁|太频繁)", r"频率", r"限流", r"速率限制", r"每(?:秒|分钟|小时|天|日)",
)  # fmt: skip
"""A rate limit whose status says something else, or that has none because it came in a stream."""

_GUARD = r"(?:content|safety|moderation|guardrails?|guard\b|filters?\b|responsible ai|usage polic|risk control)"
_TEXT = r"(?:content|prompt|input|output|message|text|response|answer)"

FILTERED: Final = Phrases(
    r"\bcontent[_ -]?filter(?:ed|ing)?\b", r"content[_ ]?policy", r"responsibleaipolicyviolation", r"content management policy",
    r"data_?inspection_?failed", r"risk_?detection", r"content exists risk", r"considered high risk", r"contains? risk",
    r"content[_ ](?:blocked|safety|moderation|inspection|violation|rejected|risk)", r"requires moderation", r"moderation[_ ](?:blocked|flagged|failed)",
    rf"\b{_TEXT} (?:was |has been |is |were |you provided [a-z ]*is )?flagged", rf"\b{_TEXT}\b[a-z ]{{0,40}} (?:is|was|has been|were|been) (?:blocked|filtered)",
    rf"\b{_TEXT} (?:was |has been |is )?(?:blocked|stopped|rejected) by {_GUARD}",
    r"flagged (?:as|by|for) [a-z -]{0,40}(?:policy|policies|safety|moderation|harm|inappropriate|violat|sexual|hate|unsafe|filter|guardrail)",
    rf"(?:blocked|rejected|declined|refused|prohibited|stopped|denied) (?:by|due to|because of|for) [a-z' -]{{0,60}}{_GUARD}",
    r"(?:usage|content|safety|use) (?:policy|policies|guidelines)", r"safety system", r"safety_check_type",
    r"safety (?:filter|reason)s?\b", r"failed [a-z ]{0,20}safety check",
    r"guardrail[^.\n]{0,60}(?:interven|block|violat|reject|trigger|flag|denied)",
    r"(?:blocked|rejected|violated|triggered|stopped)[^.\n]{0,40}guardrail", r"blockreason", r"prohibited_content",
    r"(?:input|output)[_ ](?:new_)?sensitive", r"sensitive_?(?:content|information|words?)", r"sensitive (?:content|information|words?)",
    r"(?:prohibited|forbidden|banned|harmful|unsafe|inappropriate|objectionable) (?:words?|content|material|prompt|text|input)",
    r"(?:sexual|violent|hateful|explicit)[a-z, ]{0,30} content", r"jailbreak", r"prompt[_ ]injection", r"(?m:^unsafe$)",
    r"violat(?:es|ed|ion|ing)[a-z_ ]{0,30}(?:policy|policies|guidelines|safety|terms of)", r"cyber_policy",
    r"invalid_prompt\b.{0,200}(?:policy|policies)", r"model produced invalid content", r"risk control", r"model armor",
    r"\bnsfw\b", r"blocked output", r"\b(?:prompt|response|input|output) blocked\b", r"prompt threat", r"risk content", r"hooks_failed",
    r"guardrail checks defined[^.\n]{0,60}failed", r"acceptable use", r"responsible use",
    r"违规", r"审核(?:不|未)通过", r"不合规", r"不当内容", r"不安全或敏感", r"敏感内容", r"敏感词", r"内容安全", r"违规内容", r"contains? [a-z ]{0,20}(?:sensitive|harmful|unsafe)",
)  # fmt: skip
"""The provider's filter for prompts and answers."""

FIREWALL_PAGE: Final = Phrases(
    r"you have been blocked", r"attention required!", r"request (?:was |has been |is )?blocked", r"requested url was rejected",
    r"web application firewall", r"\bwaf\b", r"mod_?security", r"incapsula incident", r"sucuri", r"errors\.edgesuite",
    r"access denied.{0,200}reference #", r"request unsuccessful", r"blocked by (?:our )?(?:security|network)", r"imperva",
    r"blocked by [a-z ]{0,20}firewall", r"error code: 10(?:10|20)\b",
)  # fmt: skip
"""The page of a firewall in front of the server, which has judged the text of the request."""

ABOUT_KEY: Final = Phrases(
    r"api[_ -]?key", r"\bkeys?\b", r"authenticat", r"unauthori[sz]ed", r"(?:not|n't) (?:be )?authori[sz]ed", r"authori[sz]ation",
    r"(?:not|n't) have access", r"credential", r"\btokens?\b(?! limit)",
    r"bearer", r"permission", r"access[_ ]?denied", r"\blog ?in\b", r"\biam\b", r"no access", r"not allowed to", r"令牌", r"密钥",
)  # fmt: skip
"""Words about who asks. A 401 or 403 without them says nothing of the key."""

NO_KEY: Final = Phrases(
    r"no connected db", r"missing credentials", r"invalid[ _]api[ _]key", r"missing [a-z ]{0,20}api[ _]key",
    r"api[ _]key not valid", r"(?:api_key|api key)[^.\n]{0,60}(?:must be set|is not set|not provided|missing)",
    r"authenticationerror", r"not authenticated", r"incorrect api key", r"invalid authentication", r"\binvalid[ _]token\b",
    r"login fail", r"token (?:is |has )?(?:been )?(?:expired|invalid|revoked)", r"(?:expired|revoked)[_ ](?:token|key)", r"key[_ ]expired",
    r"(?:令牌|密钥|api ?key)[^。\n]{0,8}(?:无效|过期|错误|不存在)", r"noautherror", r"身份验证失败", r"鉴权失败",
)  # fmt: skip
"""A missing or wrong key, with any status."""

NOT_SERVED: Final = Phrases(
    r"unsupported_country", r"country, region", r"location is not supported", r"not available in your (?:country|region)",
    r"organization (?:has been|is) (?:disabled|restricted|suspended)", r"account (?:has been|is) (?:deactivated|disabled|suspended)",
    r"account_deactivated",
)  # fmt: skip
"""Refusals of everyone at this place or of this account."""

_TOOLS = r"\b(?:tools?|functions?)\b(?:[ _-](?:use|usage|calls?|calling|param(?:eter)?s?))?"

NO_TOOLS: Final = Phrases(
    r"tool[_ ]?choice", r"tool[_ ]?config\b", r"function_calling_config", r"enable-auto-tool-choice", r"--jinja",
    rf"(?:\bnot|\bno\b|n't|\bunable to|\bcannot|\bwithout)[^.\n]{{0,40}}\bsupport[a-z]*[^.\n]{{0,60}}{_TOOLS}",
    rf"{_TOOLS}[^.\n]{{0,60}}(?:(?:not|n't) (?:currently |yet )?(?:be )?(?:supported|allowed|permitted|available|enabled|implemented|compatible)"
    r"|unsupported|unavailable|disabled)",
    r"(?:unsupported|unknown|unrecognized|unexpected|extra) (?:request )?(?:param|parameter|argument|field|key|property|input)s?\b"
    r"[^\n]{0,40}\btools?\b",
    r"\btools?\b['\"`: ]{0,4}(?:extra (?:inputs|fields) (?:are )?not permitted|unrecognized|unknown field|unexpected)",
    r"(?m:^field: tools$)", r"does not support parameters:[^\n]{0,100}\btools?\b", r"(?:incompatible|not compatible)[^\n]{0,40}\btools?\b",
    r"tools?_?(?:use_?|calling_?|call_?)?(?:not_?supported|unsupported)", r"不支持.{0,20}(?:tool|function|工具|函数)",
    r"(?:tool|function|工具|函数).{0,20}不支持",
)  # fmt: skip
"""No tools, or none that can be forced: Ollama, vLLM, llama.cpp, DeepSeek, DashScope, Bedrock, Groq, OpenRouter, OpenAI …"""

NO_FORMAT: Final = Phrases(
    r"response[_ ]?format", r"responseformat", r"json[_ ]?schema", r"response[_ ]?schema", r"response_?mime_?type",
    r"structured[_ -]?outputs?", r"\bjson[_ -]mode\b", r"output[_ ]?(?:config|format)\b", r"text\.format\b", r"guided[_ -](?:json|decoding|grammar)",
    r"\bgrammars?\b", r"\bxgrammar\b|\boutlines\b|\bllguidance\b", r"invalid schema", r"schema[^\n]{0,60}(?:not|n't|un)[ -]?support",
    r"(?:结构化输出|输出格式).{0,20}不支持", r"不支持.{0,20}(?:结构化输出|输出格式)",
)  # fmt: skip
"""No structured output, or not for this schema: OpenAI, Azure, DeepSeek, Groq, Gemini, Anthropic, vLLM, llama.cpp, TGI, LM Studio …
Where such words are in the refusal of a request with a schema, the schema is worth leaving out."""

STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400, "badrequesterror": 400, "bad_request": 400, "validationexception": 400,
    "authentication_error": 401, "authenticationerror": 401, "unauthorized": 401, "unauthenticated": 401,
    "permission_error": 403, "permission_denied": 403, "not_found_error": 404, "notfounderror": 404, "validation": 422,
    "rate_limit_error": 429, "rate_limit_exceeded": 429, "resource_exhausted": 429, "throttlingexception": 429,
    "too_many_requests": 429, "insufficient_quota": 429, "api_error": 500, "server_error": 500, "internal_error": 500,
    "internalservererror": 500, "overloaded_error": 529, "unavailable": 503,
}  # fmt: skip
"""The HTTP status that an error type means, for errors inside of a reply with status 200."""
