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

# For all models; most models were not trained on these types
NEW_TYPE_EXAMPLES = (
    Example(
        "Personal data",
        "Please send the invoice for order 7741 to Maria Jensen, 12 Harbour Street, Aarhus, or call +45 5550 1234 "
        "before 3 March.",
        {
            "person": "A human being, by name.",
            "street address": "A street with the number of a house.",
            "city": "A town or a city.",
            "phone number": "A number to dial.",
            "order number": "The number that identifies an order.",
            "date": "A day, month or year.",
        },
    ),
    Example(
        "Wine",
        "The 2019 Riesling from the Mosel went well with the smoked trout, but the tannins of the Nebbiolo were too "
        "much for it, said sommelier Ines Duarte of the Blue Heron.",
        {
            "grape variety": "A kind of grape from which wine is made.",
            "wine region": "An area where wine is grown.",
            "dish": "Something that was cooked to be eaten.",
            "vintage": "The year in which the grapes of a wine were harvested.",
            "sommelier": "A person who recommends and serves wine.",
            "restaurant": "A place where people go to eat.",
        },
    ),
    Example(
        "Bug report",
        "After the update to version 4.2 the Orion X7 router drops its connection whenever the firewall is on; going "
        "back to 4.1 on Windows 11 helps.",
        {
            "device": "A piece of electronic equipment, by its name or kind.",
            "software version": "The number of a release of a program.",
            "operating system": "The system software of a computer.",
            "problem": "Something that does not work as it should.",
        },
    ),
    Example(
        "Contract",
        "This lease between Lindqvist Holdings Ltd. (the Landlord) and the Port of Riga begins on 1 May 2024, runs for "
        "five years and costs 12,000 euros a month.",
        {
            "company": "A business, by name.",
            "organization": "A company, an authority or another group of people with a name.",
            "contract role": "What a party is called in a contract.",
            "start date": "The day on which something begins.",
            "duration": "How long something lasts.",
            "price": "An amount of money that has to be paid.",
        },
    ),
    Example(
        "Music",
        "In 1974 the pianist Lena Moravec recorded Night Ferries, an album of tangos for bandoneon and string "
        "quartet, at the Paradiso in Amsterdam.",
        {
            "musician": "A person who plays or sings music.",
            "album": "A collection of recorded music, by its title.",
            "musical genre": "A style of music.",
            "musical instrument": "A thing that is played to make music.",
            "concert venue": "A place where concerts are given.",
            "year": "A year, in digits.",
        },
    ),
)
