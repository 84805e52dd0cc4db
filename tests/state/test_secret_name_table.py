"""Which names name a secret: a table of names as real interfaces have them, in each way to write one."""

import re

import pytest

from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import is_secret_name
from railtracks.state._serialization._encoder import Encoder


def words_of(text):
    return text.split()


INNOCENT = words_of("""
    token_count tokens_count num_tokens max_token max_tokens max_new_tokens min_tokens total_tokens tokens_used
    tokens_per_second completion_tokens prompt_tokens cached_tokens reasoning_tokens token_usage token_limit
    token_budget token_price token_cost cost_per_token time_to_first_token tokenizer tokenizer_name detokenize
    token_type token_type_ids token_ids token_index token_length token_name token_status token_format
    next_token next_page_token page_token prev_page_token continuation_token cursor_token pagination_token
    next_sync_token resume_token sequence_token starting_token skip_token pad_token pad_token_id eos_token_id bos_token
    unk_token mask_token stop_token special_token idempotency_token
    token_expires_at token_expires_in token_expiry token_ttl token_lifetime token_created_at token_endpoint token_url
    token_uri token_issuer token_scope token_endpoint_auth_method_supported token_valid is_token_valid has_token
    token_bucket token_required use_token
    auth_method auth_methods auth_type authentication_type authentication auth_url auth_uri auth_mode auth_enabled
    auth_required requires_auth auth_provider auth_provider_x509_cert_url auth_level auth_time auth_server auth_domain
    auth_scheme auth_backend auth_status auth_user auth_failures enable_auth use_auth authenticated author author_id
    authority authorities authorized authorized_keys_file authorization_url authorization_endpoint
    authorization_server authorization_status authorization_id authorization_type
    password_policy password_length password_min_length password_max_age password_changed_at password_last_changed
    password_expires_in_days password_required password_reset_required password_strength password_enabled
    has_password password_hash_algorithm password_attempts password_manager password_protected password_set
    secret_name secret_version secret_arn secret_count secrets_manager secret_santa secretary is_secret secret_type
    client_secret_expires_at secret_manager_project
    cookie_consent cookie_policy cookie_domain cookie_path cookie_name cookie_max_age cookie_secure cookie_banner
    cookie_preferences accept_cookies cookies_enabled cookie_count
    credential_type credentials_provider credential_id credentials_file credentials_path credential_count
    jwt_algorithm jwt_issuer jwt_audience jwt_expiry bearer_format bearer_type
    api_key_count api_key_name api_key_id api_key_header access_key_count access_key_id key key_id key_count key_type
    primary_key foreign_key sort_key partition_key cache_key public_key dictionary_key keys keyboard keyword hotkey
    monkey turkey pin pinned spin passenger passport_country passport_number compass passage pass_count pass_rate
    boarding_pass bypass session session_count session_id connection connection_count connection_string_name
    credit score secretariat cookiecutter signing_key_id encryption_key_version
""")

GUILTY = words_of("""
    password passwords passwd passphrase passcode pwd db_password user_password new_password old_password
    password_confirmation password_hash password_1 admin_password confirm_password verify_password enable_password
    password_prod password_for_db smtp_pass db_pass user_pass dbpassword mypassword hashed_password password_reset_url
    secret secrets client_secret client_secrets app_secret secret_key secret_key_base secret_value secret_id
    aws_secret_access_key webhook_secret totp_secret jwt_secret shared_secret top_secret secret_string clientsecret
    token tokens_and_passwords token_2 access_token access_tokens refresh_token id_token auth_token auth_tokens
    api_token api_tokens session_token csrf_token xsrf_token csrf_middleware_token bearer_token bot_token device_token
    push_token reset_token invite_token github_token token_value token_secret sas_token security_token pin_token
    page_access_token next_access_token accesstoken authtoken refreshtoken private_token personal_access_token
    api_key api_keys apikey x_api_key openai_api_key api_key_2 api_key_prod google_maps_api_key subscription_key
    account_key shared_access_key storage_key master_key private_key private_key_pem ssh_private_key private_key_id_rsa
    access_key signing_key encryption_key decryption_key session_key license_key hmac_key
    authorization proxy_authorization x_authorization authorization_header authorization_code auth basic_auth http_auth
    auth_key auth_code auth_header auth_header_value bearer credentials credential credentials_json
    aws_credentials user_credentials cookie cookies set_cookie session_cookie cookie_value cookie_jar cookie_header
    jwt jwt_token connection_string recovery_codes backup_codes seed_phrase shared_access_signature
""")


def snake(words):
    return "_".join(words)


def camel(words):
    return words[0] + "".join(map(str.capitalize, words[1:]))


def pascal(words):
    return "".join(map(str.capitalize, words))


def kebab(words):
    return "-".join(words)


def header(words):
    return "-".join(map(str.capitalize, words))


def upper(words):
    return "_".join(words).upper()


STYLES = [snake, camel, pascal, kebab, header, upper]

in_each_style = pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)


@in_each_style
def test_names_that_only_look_like_those_of_secrets_are_left(style):
    assert [name for name in INNOCENT if is_secret_name(style(name.split("_")))] == []


@in_each_style
def test_the_names_of_secrets_are_recognised(style):
    assert [name for name in GUILTY if not is_secret_name(style(name.split("_")))] == []


def test_the_table_is_as_large_as_it_should_be():
    assert len(set(INNOCENT)) >= 180
    assert len(set(GUILTY)) >= 110
    assert not set(INNOCENT) & set(GUILTY)


def test_innocent_names_teach_nothing():
    """Their values are written and not learnt, so that a later text with the same words stays as it is."""
    redactor = Redactor()
    values = {name: f"production-{at}" for at, name in enumerate(INNOCENT)}
    assert Encoder(redactor).encode(values) == values
    assert redactor.known == []


@pytest.mark.parametrize("name", ["", "_", "__", "42", "-", "a" * 10_000, "token_" * 2_000, "x" * 5_000 + "_token"])
def test_odd_names_have_an_answer(name):
    assert is_secret_name(name) in (True, False)


def test_glued_words_are_found_at_the_end_of_a_word_only():
    assert all(map(is_secret_name, ["dbpassword", "mysecret", "openaiapikey", "MYSQL_ROOTPASSWORD"]))
    assert not any(map(is_secret_name, ["passwordless", "secretly", "apikeyword", "tokenise"]))


def test_each_name_of_the_table_is_written_once():
    for names in (INNOCENT, GUILTY):
        assert len(names) == len(set(names))
        assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
