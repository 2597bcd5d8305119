//! What Belvo's API description (1.223.0) declares for the GET of each path that the stand-in plays: whether it lists or
//! shows one object, and its query parameters. Pure facts; it does not know what is held or what is answered.

/// What follows a parameter that also stands for the usual comparisons.
const COMPARISONS: &[&str] = &["__gt", "__gte", "__lt", "__lte", "__range"];

/// One list of the description, with the detail below it.
#[derive(Debug)]
struct List {
    path: &'static str,
    required: Option<&'static str>,
    narrowing: Narrowing,
    /// Filters: `name`, `name~` for it and its `__in`, `name+` for its comparisons, `name*` for it and its comparisons.
    filters: &'static [&'static str],
    detail: Shape,
}

/// Where `omit` and `fields` are declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Narrowing {
    Everywhere,
    OnTheList,
    Nowhere,
}

/// What a path answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A page of a list.
    Page,
    /// One object.
    Object,
    /// One object in an array: what the description says of two details.
    ObjectInArray,
}

/// The declaration of one path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared {
    pub(super) shape: Shape,
    /// The query parameter without which there is no answer.
    pub(super) required: Option<&'static str>,
    narrowed: bool,
    filters: &'static [&'static str],
}

const fn list(
    path: &'static str,
    required: Option<&'static str>,
    filters: &'static [&'static str],
) -> List {
    List {
        path,
        required,
        narrowing: Narrowing::Everywhere,
        filters,
        detail: Shape::Object,
    }
}

const LINK: Option<&str> = Some("link");

/// The filters of most lists.
const USUAL: &[&str] = &["created_at*", "id~", "link~"];

const LISTS: &[List] = &[
    List {
        narrowing: Narrowing::OnTheList,
        ..list(
            "/api/links/",
            None,
            &[
                "access_mode",
                "created_at*",
                "created_by__not_in",
                "external_id~",
                "id~",
                "institution_user_id~",
                "institution~",
                "refresh_rate",
                "status~",
            ],
        )
    },
    List {
        narrowing: Narrowing::OnTheList,
        ..list("/api/consents/", Some("user_document"), &["user_document"])
    },
    list(
        "/api/accounts/",
        None,
        &[
            "balance__available*",
            "balance__current*",
            "category~",
            "created_at*",
            "currency~",
            "id~",
            "institution~",
            "link~",
            "name",
            "name__icontains",
            "number~",
            "public_identification_name",
            "public_identification_value",
            "type",
        ],
    ),
    list(
        "/api/owners/",
        None,
        &[
            "created_at*",
            "display_name__icontains",
            "email",
            "id~",
            "link~",
        ],
    ),
    list(
        "/api/transactions/",
        LINK,
        &[
            "account__balance__available*",
            "account__balance__current*",
            "account_type~",
            "accounting_date*",
            "account~",
            "amount*",
            "collected_at*",
            "created_at*",
            "credit_card_data__bill_name__in",
            "currency~",
            "link~",
            "reference~",
            "status~",
            "type~",
            "value_date*",
        ],
    ),
    list(
        "/api/bills/",
        LINK,
        &[
            "account~",
            "collected_at+",
            "created_at*",
            "due_date*",
            "id~",
            "link",
        ],
    ),
    list(
        "/api/br/investments/",
        LINK,
        &["created_at*", "id~", "link~", "type~"],
    ),
    list(
        "/api/br/investment-transactions/",
        LINK,
        &["created_at*", "id~", "link~", "type~"],
    ),
    list(
        "/api/br/balances/",
        LINK,
        &["account~", "collected_at*", "created_at*", "id~", "link~"],
    ),
    list(
        "/api/br/exchanges/",
        LINK,
        &["collected_at*", "created_at*", "id~", "link~"],
    ),
    list("/api/incomes/", None, &["account~", "link~"]),
    List {
        detail: Shape::ObjectInArray,
        ..list(
            "/api/recurring-expenses/",
            None,
            &["account~", "id~", "link~"],
        )
    },
    List {
        detail: Shape::ObjectInArray,
        ..list("/api/risk-insights/", None, &["account~", "id~", "link~"])
    },
    list(
        "/api/employment-records/",
        None,
        &[
            "collected_at*",
            "created_at*",
            "id~",
            "internal_identification~",
            "link~",
        ],
    ),
    List {
        narrowing: Narrowing::Nowhere,
        ..list(
            "/api/mx/current-employments/",
            None,
            &["collected_at*", "created_at*", "id~", "link~"],
        )
    },
    list("/api/employment-metrics/", None, &["link~"]),
    list(
        "/api/br/employments/",
        LINK,
        &["created_at*", "end_date*", "id~", "link~", "start_date*"],
    ),
    list(
        "/api/invoices/",
        None,
        &[
            "created_at*",
            "id~",
            "invoice_date*",
            "invoice_identification~",
            "link~",
            "status~",
            "total_amount*",
            "type~",
        ],
    ),
    list(
        "/api/tax-returns/",
        None,
        &[
            "created_at*",
            "ejercicio*",
            "id~",
            "link~",
            "tipo_declaracion~",
        ],
    ),
    list("/api/tax-status/", None, USUAL),
    list("/api/tax-compliance-status/", None, USUAL),
    list("/api/tax-retentions/", None, &["created_at*", "link~"]),
    list("/api/financial-statements/", None, USUAL),
    list("/api/cl/invoices/", None, USUAL),
    list("/api/cl/tax-status/", None, USUAL),
    list("/api/cl/debt-reports/", None, USUAL),
];

/// The list whose objects have a list of their own below them.
const WITH_HISTORY: &str = "/api/br/exchanges/";

/// The declaration of `path`; none where the description has no GET.
pub(super) fn declared(path: &str) -> Option<Declared> {
    if let Some(list) = LISTS.iter().find(|list| list.path == path) {
        return Some(list.declared());
    }
    if history_of(path).is_some() {
        return Some(Declared {
            shape: Shape::Page,
            required: None,
            narrowed: true,
            filters: &[],
        });
    }
    let (parent, id) = split(path)?;
    let list = LISTS.iter().find(|list| list.path == parent)?;
    (!id.is_empty()).then(|| list.declared_detail())
}

/// The detail's path of the object whose history `path` lists.
pub(super) fn history_of(path: &str) -> Option<&str> {
    let detail = path.strip_suffix("history/")?;
    let (list, id) = split(detail)?;
    (list == WITH_HISTORY && !id.is_empty()).then_some(detail)
}

/// A path without its last part, and that part.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    let trimmed = path.strip_suffix('/')?;
    let at = trimmed.rfind('/')? + 1;
    Some(trimmed.split_at(at))
}

impl List {
    fn declared(&self) -> Declared {
        Declared {
            shape: Shape::Page,
            required: self.required,
            narrowed: self.narrowing != Narrowing::Nowhere,
            filters: self.filters,
        }
    }

    fn declared_detail(&self) -> Declared {
        Declared {
            shape: self.detail,
            required: None,
            narrowed: self.narrowing == Narrowing::Everywhere,
            filters: &[],
        }
    }
}

impl Declared {
    /// Whether the query parameter is one of this path.
    pub(super) fn takes(&self, name: &str) -> bool {
        match name {
            "omit" | "fields" => self.narrowed,
            "page" | "page_size" => self.shape == Shape::Page,
            _ => self.filters.iter().any(|filter| stands_for(filter, name)),
        }
    }
}

fn stands_for(filter: &str, name: &str) -> bool {
    let compares = |own: &str| {
        name.strip_prefix(own)
            .is_some_and(|rest| COMPARISONS.contains(&rest))
    };
    match filter.split_at(filter.len() - 1) {
        (own, "~") => name == own || name.strip_suffix("__in") == Some(own),
        (own, "+") => compares(own),
        (own, "*") => name == own || compares(own),
        _ => name == filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(path: &str, name: &str) -> bool {
        declared(path).expect("the path is declared").takes(name)
    }

    #[test]
    fn a_path_takes_its_own_parameters_only() {
        assert!(takes("/api/accounts/", "created_at__gte"));
        assert!(!takes("/api/incomes/", "created_at__gte"));
        assert!(takes("/api/bills/", "collected_at__range"));
        assert!(!takes("/api/bills/", "collected_at"));
        assert!(takes("/api/owners/", "link__in"));
        assert!(!takes("/api/bills/", "link__in"));
    }

    #[test]
    fn a_detail_takes_nothing_but_what_narrows_it() {
        assert!(takes("/api/accounts/a/", "omit"));
        assert!(!takes("/api/accounts/a/", "page"));
        assert!(!takes("/api/links/a/", "omit"));
    }

    #[test]
    fn the_history_of_an_exchange_is_a_list() {
        let history = "/api/br/exchanges/a/history/";
        assert!(takes(history, "page_size"));
        assert!(!takes(history, "link"));
        assert_eq!(history_of(history), Some("/api/br/exchanges/a/"));
    }

    #[test]
    fn what_is_not_in_the_description_is_not_declared() {
        for path in [
            "/api/accounts",
            "/api/tax-declarations/",
            "/api/bills/a/history/",
            "/",
        ] {
            assert!(declared(path).is_none(), "{path}");
        }
    }
}
