"""Decimal money and weight: the only file that creates, rounds or formats decimals."""

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, InvalidOperation, localcontext

ZERO, ONE = Decimal(0), Decimal(1)

#: Enough digits that no sum of a plan's amounts is rounded: 10,000 lines of 18 digits.
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)

#: ISO 4217 minor units of the currencies that do not have two.
MINOR_UNITS = {
    "BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0,
    "RWF": 0, "UGX": 0, "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
    "BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "CLF": 4, "UYW": 4,
}  # fmt: skip

#: ISO 4217 codes of currencies in circulation, without funds, metals and test codes.
CURRENCIES = frozenset(
    """AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
    CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL
    HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL
    MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON
    RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH
    UGX USD UYI UYU UYW UZS VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG""".split()
)


def to_decimal(text: str) -> Decimal:
    """Return the decimal in `text`.

    Raises ValueError if it is not a decimal, or not finite.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a decimal number") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a finite number")
    return value


def minor_units(currency: str) -> int:
    """Return how many digits `currency` (ISO 4217) has after the point."""
    return MINOR_UNITS.get(currency, 2)


def round_amount(amount: Decimal, currency: str) -> Decimal:
    """Return `amount` rounded half to even to the currency's minor unit."""
    return amount.quantize(Decimal(1).scaleb(-minor_units(currency)), context=EXACT)


def round_weight(kilograms: Decimal) -> Decimal:
    """Return a weight rounded half to even to a tenth of a gram."""
    return kilograms.quantize(Decimal("0.0001"), context=EXACT)


def fits_minor_unit(amount: Decimal, currency: str) -> bool:
    """Return whether `amount` has no digit finer than the currency's minor unit."""
    return round_amount(amount, currency) == amount


def multiply(left: Decimal, right: Decimal) -> Decimal:
    """Return the exact product of two decimals."""
    return EXACT.multiply(left, right)


def sum_exact(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of `amounts`; zero if there are none."""
    with localcontext(EXACT):
        return sum(amounts, ZERO)


def sum_known(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """Return the exact sum of `amounts`; None if one of them is not known."""
    known = [amount for amount in amounts if amount is not None]
    return sum_exact(known) if len(known) == len(amounts) else None


def percent_of(part: Decimal, whole: Decimal) -> Decimal | None:
    """Return `part` as a percentage of `whole`, rounded half to even to two digits; None if `whole` is zero."""
    if not whole:
        return None
    return EXACT.divide(EXACT.multiply(part, Decimal(100)), whole).quantize(Decimal("0.01"), context=EXACT)


def format_plain(value: Decimal) -> str:
    """Return `value` without an exponent, with unchanged digits."""
    return f"{value:f}"


def format_amount(amount: Decimal, currency: str) -> str:
    """Return `amount` for people: with digit groups, to the currency's minor unit, or finer if the amount is finer."""
    digits = max(minor_units(currency), -int(amount.as_tuple().exponent))
    return f"{amount:,.{digits}f}"


def divide_exact(part: Decimal, whole: Decimal) -> Decimal:
    """Return `part` divided by `whole`, which is not zero, to 60 digits."""
    return EXACT.divide(part, whole)


def take_percent(amount: Decimal, percent: Decimal) -> Decimal:
    """Return `percent` of `amount`, rounded to hundredths as `round_cents` does."""
    return round_cents(EXACT.divide(EXACT.multiply(amount, percent), Decimal(100)))


def round_cents(amount: Decimal) -> Decimal:
    """Return `amount` rounded to hundredths, half away from zero, as customs rounds duties."""
    return amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP, context=EXACT)


def round_dollars(amount: Decimal) -> Decimal:
    """Return `amount` rounded to whole units, half away from zero, as customs rounds an entered value."""
    return amount.quantize(Decimal(1), rounding=ROUND_HALF_UP, context=EXACT)


def round_decimals(value: Decimal, decimals: int) -> Decimal:
    """Return `value` with this many digits after the point, half a unit of the last one up."""
    return value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP, context=EXACT)
