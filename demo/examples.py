"""Example texts for the page, each with entity types to find. The sentences were written for this project."""

from typing import NamedTuple


class Example(NamedTuple):
    """A text with the names and descriptions of entity types. If `types` is None, the model's own types are used."""

    title: str
    text: str
    types: dict[str, str] | None = None


# For models that have entity types; examples with nested entities come first
OWN_TYPE_EXAMPLES = (
    Example("Gene promoter", "The University of Oslo studies the IL-2 gene promoter in CD8+ T cells."),
    Example(
        "Binding site",
        "Deletion of the NF-kB binding site in the IL-6 gene promoter abolished its induction by dexamethasone in "
        "CD14+ monocytes.",
    ),
    Example(
        "Spokeswoman",
        "Amina Okafor of the University of Nairobi travelled to Geneva to meet officials of the World Health "
        "Organization.",
    ),
)

# For all models; most models were not trained on these types. Each description begins with the name of the type, which
# gives the best results on average (see docs/how-to-ask-for-a-type.md).
NEW_TYPE_EXAMPLES = (
    Example(
        "Personal data",
        "Please send the invoice for order 7741 to Maria Jensen, 12 Harbour Street, Aarhus, or call +45 5550 1234 "
        "before 3 March.",
        {
            "person": "person: a human being, by name",
            "street address": "street address: a street with the number of a house",
            "city": "city: a town or a city",
            "phone number": "phone number: a number to dial",
            "order number": "order number: the number that identifies an order",
            "date": "date: a day, month or year",
        },
    ),
    Example(
        "Wine",
        "The 2019 Riesling from the Mosel went well with the smoked trout, but the tannins of the Nebbiolo were too "
        "much for it, said sommelier Ines Duarte of the Blue Heron.",
        {
            "grape variety": "grape variety: a kind of grape from which wine is made",
            "wine region": "wine region: an area where wine is grown",
            "dish": "dish: something that was cooked to be eaten",
            "vintage": "vintage: the year in which the grapes of a wine were harvested",
            "sommelier": "sommelier: a person who recommends and serves wine",
            "restaurant": "restaurant: a place where people go to eat",
        },
    ),
    Example(
        "Bug report",
        "After the update to version 4.2 the Orion X7 router drops its connection whenever the firewall is on; going "
        "back to 4.1 on Windows 11 helps.",
        {
            "device": "device: a piece of electronic equipment, by its name or kind",
            "software version": "software version: the number of a release of a program",
            "operating system": "operating system: the system software of a computer",
            "problem": "problem: something that does not work as it should",
        },
    ),
    Example(
        "Contract",
        "This lease between Lindqvist Holdings Ltd. (the Landlord) and the Port of Riga begins on 1 May 2024, runs for "
        "five years and costs 12,000 euros a month.",
        {
            "company": "company: a business, by name",
            "organization": "organization: a company, an authority or another group of people with a name",
            "contract role": "contract role: what a party is called in a contract",
            "start date": "start date: the day on which something begins",
            "duration": "duration: how long something lasts",
            "price": "price: an amount of money that has to be paid",
        },
    ),
    Example(
        "Music",
        "In 1974 the pianist Lena Moravec recorded Night Ferries, an album of tangos for bandoneon and string "
        "quartet, at the Paradiso in Amsterdam.",
        {
            "musician": "musician: a person who plays or sings music",
            "album": "album: a collection of recorded music, by its title",
            "musical genre": "musical genre: a style of music",
            "musical instrument": "musical instrument: a thing that is played to make music",
            "concert venue": "concert venue: a place where concerts are given",
            "year": "year: a year, in digits",
        },
    ),
)
